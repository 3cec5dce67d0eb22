package dev.headwater.polls;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.source.SourceTask;
import org.apache.kafka.connect.source.SourceTaskContext;
import org.apache.kafka.connect.storage.OffsetStorageReader;

/**
 * Runs a source task as Kafka Connect does, and ends it after some of its polls.
 *
 * <p>What a poll gives counts as delivered, with the offset of its last record: one transaction of
 * Kafka. A task that is ended loses whatever it had not given.
 *
 * <p>Each line of input is one run from the given offset: `<class>[><class after an end>] <max.batch.size> <chance of an
 * end after a poll> <seed> <xid> <seconds>`; it goes on until the transaction's END record. Each
 * record is one line of output, `R <topic> <key> <value>`; a run ends with `E <polls> <ends>` or,
 * where the seconds were not enough or the task failed, with `X <error>`.
 */
public final class Polls {

  private static final double BEAT_SHARE = 0.1; // or it would not get on for heartbeats
  private final Map<String, String> config = new HashMap<>();
  private final JsonConverter json = new JsonConverter();
  private final PrintStream out;
  private Map<String, Object> offset;

  private Polls(Path file, PrintStream out) throws Exception {
    Properties given = new Properties();
    given.load(Files.newBufferedReader(file));
    given.forEach((key, value) -> config.put((String) key, (String) value));
    json.configure(Map.of("schemas.enable", "false"), false);
    this.out = out;
  }

  public static void main(String[] arguments) throws Exception {
    PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    System.setOut(System.err);
    Polls polls = new Polls(Path.of(arguments[0]), out);
    var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      String[] run = line.split(" ");
      try {
        double chance = Double.parseDouble(run[2]);
        polls.run(run[0], run[1], chance, new Random(Long.parseLong(run[3])), run[4], run[5]);
      } catch (Exception error) {
        out.println("X " + error.toString().replace('\n', ' '));
      }
      out.flush();
    }
    System.exit(0);
  }

  private void run(
      String name, String batch, double chance, Random random, String last, String seconds)
      throws Exception {
    offset = read(config.get("test.offset").getBytes(StandardCharsets.UTF_8));
    config.put("max.batch.size", batch);
    long limit = System.nanoTime() + Long.parseLong(seconds) * 1_000_000_000L;
    int polls = 0;
    int ends = 0;
    boolean ended = false;
    String[] names = name.split(">");
    SourceTask task = started(names[0]);
    try {
      while (!ended) {
        if (System.nanoTime() > limit) {
          throw new IllegalStateException("the last transaction did not come");
        }
        List<SourceRecord> records = task.poll();
        if (records == null || records.isEmpty()) {
          continue;
        }
        polls++;
        boolean beats = true;
        for (SourceRecord record : records) {
          ended |= deliver(record, last);
          beats &= record.topic().startsWith("__debezium-heartbeat");
        }
        if (!ended && random.nextDouble() < (beats ? chance * BEAT_SHARE : chance)) {
          ends++;
          task.stop();
          task = started(names[names.length - 1]);
        }
      }
    } finally {
      task.stop();
    }
    out.println("E " + polls + " " + ends);
  }

  private boolean deliver(SourceRecord record, String last) {
    if (record.sourcePartition().containsKey("server") && !record.sourceOffset().isEmpty()) {
      offset = read(json.fromConnectData("", null, record.sourceOffset()));
    }
    String key = text(record.keySchema(), record.key());
    String value = text(record.valueSchema(), record.value());
    out.println("R " + record.topic() + "\t" + key + "\t" + value);
    return record.topic().endsWith(".transaction")
        && value.contains("\"END\"")
        && value.contains("\"id\":\"" + last + ":");
  }

  private SourceTask started(String name) throws Exception {
    SourceTask task = (SourceTask) Class.forName(name).getDeclaredConstructor().newInstance();
    task.initialize(new Context(new HashMap<>(config), offset));
    task.start(new HashMap<>(config));
    return task;
  }

  private String text(Schema schema, Object value) {
    byte[] bytes = json.fromConnectData("", schema, value);
    return bytes == null ? "null" : new String(bytes, StandardCharsets.UTF_8);
  }

  @SuppressWarnings("unchecked")
  private Map<String, Object> read(byte[] text) {
    return (Map<String, Object>) json.toConnectData("", text).value();
  }

  private record Context(Map<String, String> configs, Map<String, Object> offset)
      implements SourceTaskContext, OffsetStorageReader {

    @Override
    public OffsetStorageReader offsetStorageReader() {
      return this;
    }

    @Override
    public <T> Map<String, Object> offset(Map<String, T> partition) {
      return offset;
    }

    @Override
    public <T> Map<Map<String, T>, Map<String, Object>> offsets(
        Collection<Map<String, T>> partitions) {
      Map<Map<String, T>, Map<String, Object>> all = new HashMap<>();
      partitions.forEach(partition -> all.put(partition, offset));
      return all;
    }

    @Override
    public org.apache.kafka.common.metrics.PluginMetrics pluginMetrics() {
      return null;
    }
  }
}
