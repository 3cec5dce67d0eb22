package dev.headwater.bronze;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.kafka.connect.sink.SinkRecord;

/**
 * Runs histories of one partition's buffer and prints what it says after each step.
 *
 * <p>Each line of input is one history: steps separated by spaces, each a name with numbers behind
 * colons, beginning with `begin:<next>:<kept>`. A step's line of output has the offset to read next,
 * the one a restart would begin at, the first unverified one and the mark; behind `seal` also the
 * object's name and its bytes. A history ends with `.`.
 */
public final class Buffers {
  private static final String PREFIX = "hw.public.films/partition=0/";

  private Buffers() {}

  public static void main(String[] none) throws Exception {
    var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      PartitionBuffer buffer = null;
      for (String step : line.split(" ")) {
        String[] parts = step.split(":");
        buffer = parts[0].equals("begin") ? begun(parts) : buffer;
        System.out.println(after(buffer, parts));
      }
      System.out.println(".");
    }
  }

  private static PartitionBuffer begun(String[] parts) {
    return new PartitionBuffer(PREFIX, "id", Long.parseLong(parts[1]), Long.parseLong(parts[2]));
  }

  private static String after(PartitionBuffer buffer, String[] step) {
    String object = "";
    switch (step[0]) {
      case "begin" -> {}
      case "take" -> buffer.take(record(Long.parseLong(step[1])), new LineWriter(), 0);
      case "advance" -> buffer.advance(Long.parseLong(step[1]));
      case "verified" -> buffer.jumpsVerified();
      case "unknown" -> buffer.jumpsUnknown();
      case "lost" -> buffer.lost(Long.parseLong(step[1]), Long.parseLong(step[2]));
      case "seal" -> {
        buffer.seal(new GzipLevel(3));
        SealedObject sealed = buffer.sealed;
        object =
            " " + sealed.key() + " " + Base64.getEncoder().encodeToString(sealed.body());
      }
      case "settled" -> buffer.settled();
      case "quiet" -> {
        buffer.passedMarkers(System.nanoTime() + 60_000_000_000L);
        buffer.beginBatch();
      }
      default -> throw new IllegalArgumentException(step[0]);
    }
    return buffer.read() + " " + buffer.stored() + " " + buffer.jumpFrom() + " "
        + buffer.mark("bucket") + object;
  }

  private static SinkRecord record(long offset) {
    return new SinkRecord("hw.public.films", 0, null, null, null, null, offset);
  }
}
