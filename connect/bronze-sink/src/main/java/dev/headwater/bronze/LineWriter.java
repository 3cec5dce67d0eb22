package dev.headwater.bronze;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.sink.SinkRecord;

/**
 * Writes one record as one line of JSON, bytes untouched.
 *
 * <p>A line has all of these fields, in this order: topic (string), partition (int), offset (long),
 * timestamp (long, ms since 1970, or null), headers (list of [name, value]), key, value. A value,
 * key or header value is null, or a JSON string holding bytes that are valid UTF-8, or
 * {@code {"b64": "..."}} for any other bytes. Text that itself begins with {@code {"b64"} takes
 * the second form too, so that a reader that sees only text can distinguish the two.
 */
final class LineWriter {
  private static final byte[] NULL = ascii("null");
  private static final byte[] ENCODED = ascii("{\"b64\"");
  private static final byte[] HEX = ascii("0123456789abcdef");
  private static final int ESCAPED_MAX = 6;

  private final CharsetDecoder utf8 =
      StandardCharsets.UTF_8
          .newDecoder()
          .onMalformedInput(CodingErrorAction.REPORT)
          .onUnmappableCharacter(CodingErrorAction.REPORT);
  private final CharBuffer checked = CharBuffer.allocate(4096);
  private final byte[] piece = new byte[4096];

  /** Appends the line of {@code record}, newline included. */
  void write(SinkRecord record, ByteArrayOutputStream out) {
    plain(out, "{\"topic\":\"" + record.originalTopic() + "\",\"partition\":" + record.originalKafkaPartition());
    plain(out, ",\"offset\":" + record.originalKafkaOffset());
    plain(out, ",\"timestamp\":" + record.timestamp() + ",\"headers\":[");
    String comma = "";
    for (Header header : record.headers()) {
      plain(out, comma + "[");
      string(out, header.key().getBytes(StandardCharsets.UTF_8));
      out.write(',');
      bytes(out, raw(header.value(), "header `" + header.key() + "`", record));
      out.write(']');
      comma = ",";
    }
    plain(out, "],\"key\":");
    bytes(out, raw(record.key(), "key", record));
    plain(out, ",\"value\":");
    bytes(out, raw(record.value(), "value", record));
    plain(out, "}\n");
  }

  private static byte[] raw(Object value, String what, SinkRecord record) {
    if (value == null || value instanceof byte[]) {
      return (byte[]) value;
    }
    throw new DataException(
        "the " + what + " of " + record.originalTopic() + "-" + record.originalKafkaPartition() + " at offset "
            + record.originalKafkaOffset() + " is a " + value.getClass().getName()
            + ", not bytes\nhint: set key.converter, value.converter and header.converter of this"
            + " connector to org.apache.kafka.connect.converters.ByteArrayConverter");
  }

  private void bytes(ByteArrayOutputStream out, byte[] value) {
    if (value == null) {
      out.writeBytes(NULL);
    } else if (startsEncoded(value) || !isUtf8(value)) {
      plain(out, "{\"b64\":\"");
      out.writeBytes(Base64.getEncoder().encode(value));
      plain(out, "\"}");
    } else {
      string(out, value);
    }
  }

  private static boolean startsEncoded(byte[] value) {
    return value.length >= ENCODED.length
        && Arrays.equals(value, 0, ENCODED.length, ENCODED, 0, ENCODED.length);
  }

  /** Decodes piece by piece, because a value may be as large as a message. */
  private boolean isUtf8(byte[] value) {
    if (isAscii(value)) {
      return true;
    }
    ByteBuffer rest = ByteBuffer.wrap(value);
    utf8.reset();
    CoderResult result;
    do {
      checked.clear();
      result = utf8.decode(rest, checked, true);
    } while (result.isOverflow());
    return !result.isError();
  }

  private static boolean isAscii(byte[] value) {
    byte all = 0;
    for (byte b : value) {
      all |= b;
    }
    return all >= 0;
  }

  /**
   * Valid UTF-8 needs only quotes, backslashes and control characters escaped in JSON.
   *
   * <p>Written piece by piece: the stream locks at each call, and an event has a quote every ten bytes.
   */
  private void string(ByteArrayOutputStream out, byte[] text) {
    byte[] to = piece;
    int end = 0;
    to[end++] = '"';
    for (byte b : text) {
      if (end > to.length - ESCAPED_MAX) {
        out.write(to, 0, end);
        end = 0;
      }
      if (b == '"' || b == '\\') {
        to[end++] = '\\';
        to[end++] = b;
      } else if (b >= 0x20 || b < 0) {
        to[end++] = b;
      } else {
        to[end++] = '\\';
        to[end++] = 'u';
        to[end++] = '0';
        to[end++] = '0';
        to[end++] = HEX[b >> 4];
        to[end++] = HEX[b & 15];
      }
    }
    out.write(to, 0, end);
    out.write('"');
  }

  private static void plain(ByteArrayOutputStream out, String text) {
    out.writeBytes(ascii(text));
  }

  private static byte[] ascii(String text) {
    return text.getBytes(StandardCharsets.ISO_8859_1);
  }
}
