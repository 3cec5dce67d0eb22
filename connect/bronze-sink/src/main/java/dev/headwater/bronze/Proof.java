package dev.headwater.bronze;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;

/**
 * What an object says about the offsets that it lacks: the offset from which its records were read
 * without a gap. From there on, an offset without a record was a transaction marker or was aborted.
*
 * <p>It is a comment in the header of the gzip stream, which every reader of gzip ignores. Whoever
 * has the object thus has the proof without a second request, and a tool that copies objects
 * without their metadata keeps it.
 *
 * @param readFrom the first offset that was read for the object; at most the first record's
 * @param lostFrom the first offset that Kafka had dropped before it was read, or -1
 * @param lostTo the last such offset
 */
record Proof(long readFrom, long lostFrom, long lostTo) {
  private static final int HEADER_BYTES = 10;
  private static final int FLAGS = 3;
  private static final int COMMENT = 0x10;

  /** {@code packed}, a gzip stream without optional header fields, with this proof in its header. */
  byte[] in(ByteArrayOutputStream packed) {
    byte[] plain = packed.toByteArray();
    byte[] comment = (this + "\0").getBytes(StandardCharsets.ISO_8859_1);
    byte[] proved = new byte[plain.length + comment.length];
    System.arraycopy(plain, 0, proved, 0, HEADER_BYTES);
    System.arraycopy(comment, 0, proved, HEADER_BYTES, comment.length);
    System.arraycopy(
        plain, HEADER_BYTES, proved, HEADER_BYTES + comment.length, plain.length - HEADER_BYTES);
    proved[FLAGS] |= COMMENT;
    return proved;
  }

  @Override
  public String toString() {
    String lost = lostFrom < 0 ? "" : " lost=" + lostFrom + "-" + lostTo;
    return "headwater read-from=" + readFrom + lost;
  }
}
