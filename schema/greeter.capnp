@0xe12e2343a71a5acd;
# What the smallest programs of this project speak, and the guide's example.

interface Greeter {
  greet @0 (name :Text) -> (greeting :Text);
  # Greets somebody by name.

  greetGuest @1 (guest :Guest) -> (greeting :Text);
  # Asks a guest for the name, then greets.
}

interface Guest {
  # Somebody who can be asked.

  name @0 () -> (name :Text);
}
