package dev.headwater.reader;

/** A failure that a user can act on: the failure, the observation, what to do. */
final class ReaderException extends Exception {
  private static final long serialVersionUID = 1L;
  private final String detail;
  private final String hint;

  ReaderException(String message, String detail, String hint) {
    super(message);
    this.detail = detail;
    this.hint = hint;
  }

  /** As it is printed on stderr. */
  String told() {
    String text = getMessage();
    text += detail.isEmpty() ? "" : "\n  detail: " + detail;
    return text + (hint.isEmpty() ? "" : "\n  hint: " + hint);
  }

  static ReaderException noFeed(String table, long version) {
    String name = table.substring(table.lastIndexOf('/') + 1);
    return new ReaderException(
        table + " has no change data feed at version " + version,
        "its property " + KernelTable.FEED + " was not true then",
        "switch it on: change_data_feed = \"" + name + "\" in a profile, `./headwater down`, then "
            + "`./headwater up --profile FILE`; if it is on by now, begin anew: without --from "
            + "and state");
  }

  static ReaderException gone(String table, long version, Throwable observed) {
    return new ReaderException(
        table + ": version " + version + " is not there",
        String.valueOf(observed.getMessage()),
        "all versions stay for silver_retention_minutes (15), then some: begin anew without "
            + "--from and state, follow more often, or raise that setting");
  }
}
