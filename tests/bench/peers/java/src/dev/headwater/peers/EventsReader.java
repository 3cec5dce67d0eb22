package dev.headwater.peers;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.Writer;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.Table;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.data.IcebergGenerics;
import org.apache.iceberg.data.Record;
import org.apache.iceberg.hadoop.HadoopCatalog;

/**
 * Reads the Iceberg table `lake.events` on request: `EventsReader WAREHOUSE`.
 *
 * <p>Requests come on stdin, one a line: `volume` answers the number of data files, their bytes and their rows by the
 * newest snapshot; `dump FILE` writes all rows to FILE, one a line: topic, partition, offset and the SHA-1 of the value
 * (empty for NULL), separated by tabs, and answers their number. A request that failed is answered with `error` and the
 * reason.
 */
public final class EventsReader {
  private static final TableIdentifier EVENTS = TableIdentifier.of("lake", "events");

  private EventsReader() {}

  public static void main(String[] arguments) throws Exception {
    PrintStream answers = System.out;
    System.setOut(System.err); // libraries print to it
    var catalog = new HadoopCatalog(new Configuration(), arguments[0]);
    var requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = requests.readLine(); line != null; line = requests.readLine()) {
      String[] words = line.split(" ");
      String answer;
      try {
        Table events = catalog.loadTable(EVENTS);
        answer = words[0].equals("volume") ? volume(events) : dump(events, Path.of(words[1]));
      } catch (Exception error) {
        answer = "error " + error.toString().replace('\n', ' ');
      }
      answers.println(answer);
      answers.flush();
    }
  }

  private static String volume(Table events) {
    Map<String, String> found =
        events.currentSnapshot() == null ? Map.of() : events.currentSnapshot().summary();
    return found.getOrDefault("total-data-files", "0")
        + " "
        + found.getOrDefault("total-files-size", "0")
        + " "
        + found.getOrDefault("total-records", "0");
  }

  private static String dump(Table events, Path path) throws Exception {
    MessageDigest sha1 = MessageDigest.getInstance("SHA-1");
    long count = 0;
    try (var rows = IcebergGenerics.read(events).build();
        Writer file = Files.newBufferedWriter(path)) {
      for (Record row : rows) {
        var value = (ByteBuffer) row.getField("value");
        String digest = "";
        if (value != null) {
          sha1.update(value.duplicate());
          digest = HexFormat.of().formatHex(sha1.digest());
        }
        Object topic = row.getField("topic");
        Object partition = row.getField("partition");
        file.write(topic + "\t" + partition + "\t" + row.getField("offset") + "\t" + digest + "\n");
        count++;
      }
    }
    return Long.toString(count);
  }
}
