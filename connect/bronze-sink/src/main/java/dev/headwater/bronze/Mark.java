package dev.headwater.bronze;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What stands beside a committed offset: of which bucket and topic it is, and what the sink knows of
 * the offsets between the bucket's last record and the committed one.
 *
 * @param kept the offset behind the bucket's last record at that time, from which on everything was
 *     read up to the committed offset; -1 where that is not known (older versions did not say)
 * @param lostFrom the first of those that Kafka had dropped before they were read, or -1
 * @param lostTo the last of them
 */
record Mark(String bucket, String topicId, long kept, long lostFrom, long lostTo) {
  private static final Pattern FORM =
      Pattern.compile("([^/]+)/([^/]+)(?:/(\\d+)(?:/lost=(\\d+)-(\\d+))?)?");

  /** The mark that a text holds; null where it is none. */
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
