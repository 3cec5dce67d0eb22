package dev.headwater.bronze;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The text stored with a committed offset: its bucket and topic, and what the sink knows about the
 * offsets between the bucket's last record and the committed one.
 *
 * @param kept the offset after the bucket's last record at that time; everything from it to the
 *     committed offset was read; -1 if that is not known (older versions did not write it)
 * @param lostFrom the first offset that Kafka had dropped before it was read, or -1
 * @param lostTo the last of them
 */
record Mark(String bucket, String topicId, long kept, long lostFrom, long lostTo) {
  private static final Pattern FORM =
      Pattern.compile("([^/]+)/([^/]+)(?:/(\\d+)(?:/lost=(\\d+)-(\\d+))?)?");

  /** Parses a mark; null if the text is not one. */
  static Mark of(String text) {
    Matcher form = FORM.matcher(text == null ? "" : text);
    if (!form.matches()) {
      return null;
    }
    return new Mark(
        form.group(1), form.group(2), number(form, 3), number(form, 4), number(form, 5));
  }

  private static long number(Matcher form, int group) {
    return form.group(group) == null ? -1 : Long.parseLong(form.group(group));
  }

  @Override
  public String toString() {
    String lost = lostFrom < 0 ? "" : "/lost=" + lostFrom + "-" + lostTo;
    return bucket + "/" + topicId + (kept < 0 ? "" : "/" + kept + lost);
  }
}
