package dev.headwater.bronze;

import java.util.Map;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * One object ready to be put: compressed, and named by its first offset.
 *
 * @param key the object's name in the bucket
 * @param body gzip of the lines
 * @param first offset of the first record
 * @param last offset of the last record
 * @param seal distinguishes this object from one that another task put under the same name
 */
record SealedObject(
    String key, byte[] body, long first, long last, String seal, Map<String, String> metadata) {

  static final long BLOCK = 10_000;
  private static final Pattern NAME = Pattern.compile("/block=[0-9]{16}/([0-9]{20})\\.jsonl\\.gz$");
  private static final Pattern UNFINISHED =
      Pattern.compile("/block=[0-9]{16}/[0-9]{20}\\.jsonl\\.gz-[0-9a-f-]{36}$");

  /**
   * Whether {@code key} never holds a record. This is so for the mark of a folder, which tools that
   * delete or copy objects leave behind. It is also so for an object's name followed by a UUID: the
   * embedded store shows it while a put is in progress, or after the store died during one.
   */
  static boolean holdsNothing(String key) {
    return key.endsWith("/") || UNFINISHED.matcher(key).find();
  }

  static final String LAST_OFFSET = "last-offset";
  static final String SEAL = "seal";
  static final String TOPIC_ID = "topic-id";

  static SealedObject of(
      String prefix, byte[] body, long first, long last, int records, String topicId) {
    String seal = UUID.randomUUID().toString();
    var metadata =
        Map.of(
            "format", "1",
            "first-offset", Long.toString(first),
            LAST_OFFSET, Long.toString(last),
            "records", Integer.toString(records),
            TOPIC_ID, topicId,
            SEAL, seal);
    return new SealedObject(key(prefix, first), body, first, last, seal, metadata);
  }

  /**
   * The name has twenty digits, so that names sort as offsets do. There is a folder for each 10,000
   * offsets, because some stores read a whole folder to list a part of it.
   */
  static String key(String prefix, long first) {
    return String.format("%sblock=%016d/%020d.jsonl.gz", prefix, first / BLOCK, first);
  }

  /** The first offset in a name, or -1 if the name is not one of the sink's. */
  static long firstOffset(String key) {
    Matcher name = NAME.matcher(key);
    return name.find() ? Long.parseLong(name.group(1)) : -1;
  }
}
