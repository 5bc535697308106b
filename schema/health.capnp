@0xa9d3f0c47be6152d;
# Whether a server wants calls: for supervisors, load balancers and clients that
# choose between servers.

interface Health {
  check @0 () -> (state :State);
  # How the server is now.

  watch @1 (watcher :Watcher) -> (watch :Watch);
  # Tells the watcher how the server is: at once, and after each change. If the server
  # changes faster than the watcher answers, states in between are left out.

  struct State {
    serving @0 :Bool;
    # Whether new calls are welcome.

    reason @1 :Text;
    # Why, for people. May be empty.
  }

  interface Watcher {
    changed @0 (state :State);
  }

  interface Watch {
    # Ends when it is dropped.
  }
}
