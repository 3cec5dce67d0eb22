package dev.headwater.bronze;

import java.util.Map;
import java.util.UUID;

/**
 * One object ready to be put: compressed, with a name that its first offset fixes.
 *
 * @param key the object's name in the bucket
 * @param body gzip of the lines
 * @param first offset of the first record
 * @param last offset of the last record
 * @param seal tells this very object from one that another task put under the same name
 */
record SealedObject(
    String key, byte[] body, long first, long last, String seal, Map<String, String> metadata) {

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

  /** Twenty digits, so that names sort as offsets do. */
  static String key(String prefix, long first) {
    return prefix + String.format("%020d", first) + ".jsonl.gz";
  }

  /** The first offset that a name tells, or -1 where the name is not one of the sink's. */
  static long firstOffset(String prefix, String key) {
    if (!key.startsWith(prefix) || !key.endsWith(".jsonl.gz")) {
      return -1;
    }
    String digits = key.substring(prefix.length(), key.length() - ".jsonl.gz".length());
    return digits.matches("[0-9]{20}") ? Long.parseLong(digits) : -1;
  }
}
