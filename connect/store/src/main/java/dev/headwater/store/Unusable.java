package dev.headwater.store;

/** The store cannot be used as configured; the message has the failure, its reason, and what to do. */
final class Unusable extends Exception {
  private static final long serialVersionUID = 1L;

  Unusable(String message) {
    super(message);
  }
}
