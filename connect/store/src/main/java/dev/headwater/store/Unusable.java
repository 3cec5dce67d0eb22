package dev.headwater.store;

/** The store cannot be used as it is configured: what failed, what was seen, what to do. */
final class Unusable extends Exception {
  private static final long serialVersionUID = 1L;

  Unusable(String message) {
    super(message);
  }
}
