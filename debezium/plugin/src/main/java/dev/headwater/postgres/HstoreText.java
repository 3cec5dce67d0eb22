package dev.headwater.postgres;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Map;

/** Prints an hstore, which the snapshot's driver hands over as a map, as the server does. */
final class HstoreText {

  // The server keeps pairs in the order of the lengths of their keys in bytes, then of the bytes.
  private static final Comparator<byte[]> SERVERS_ORDER =
      Comparator.<byte[]>comparingInt(key -> key.length).thenComparing(Arrays::compareUnsigned);

  private HstoreText() {}

  static String of(Map<?, ?> pairs) {
    StringBuilder text = new StringBuilder();
    pairs.keySet().stream()
        .map(Object::toString)
        .sorted(Comparator.comparing(HstoreText::bytes, SERVERS_ORDER))
        .forEach(
            key -> {
              quoted(text.append(text.length() > 0 ? ", " : ""), key).append("=>");
              Object value = pairs.get(key);
              if (value == null) {
                text.append("NULL");
              } else {
                quoted(text, value.toString());
              }
            });
    return text.toString();
  }

  private static byte[] bytes(String key) {
    return key.getBytes(StandardCharsets.UTF_8);
  }

  private static StringBuilder quoted(StringBuilder text, String word) {
    return text.append('"').append(word.replace("\\", "\\\\").replace("\"", "\\\"")).append('"');
  }
}
