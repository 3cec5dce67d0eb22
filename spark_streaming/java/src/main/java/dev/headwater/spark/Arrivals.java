package dev.headwater.spark;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InterruptException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/**
 * Waits until Kafka has a committed event at or after given offsets: the broker holds a fetch back
 * until there is one. Events are not used; the consumer has no group. For one thread.
 */
final class Arrivals {
  /** The longest wait. */
  static final Duration WAIT = Duration.ofSeconds(1);

  // With a second here, events waited under load for nearly as long. Why is not known.
  private static final int FETCH_MS = 100;
  private static final long UNKNOWN_MS = 100;
  private static final String PREFIX = "kafka.";
  private static final ObjectMapper JSON = new ObjectMapper();

  private final Map<String, Object> settings = new HashMap<>();
  private KafkaConsumer<byte[], byte[]> consumer;

  /** Takes the options of Spark's Kafka source. */
  Arrivals(CaseInsensitiveStringMap options) {
    options.asCaseSensitiveMap().forEach(
        (key, value) -> {
          if (key.toLowerCase(Locale.ROOT).startsWith(PREFIX)) {
            settings.put(key.substring(PREFIX.length()), value);
          }
        });
    settings.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
    settings.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
    settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
    settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "none");
    settings.put(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG, FETCH_MS);
    settings.put(ConsumerConfig.FETCH_MIN_BYTES_CONFIG, 1);
    // The broker sends one batch of records nevertheless.
    settings.put(ConsumerConfig.FETCH_MAX_BYTES_CONFIG, 1);
    settings.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 1);
    settings.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 1);
  }

  /**
   * Returns when an event is there, or after {@link #WAIT}. A Kafka that cannot be asked ends the
   * wait: Spark's own questions report it.
   *
   * @param offsets Spark's: {"topic": {"partition": offset}}
   */
  void await(String offsets) {
    try {
      if (consumer == null) {
        consumer = new KafkaConsumer<>(settings);
      }
      Map<TopicPartition, Long> from = parsed(offsets);
      if (from.isEmpty()) { // there is no topic yet
        Thread.sleep(UNKNOWN_MS);
        return;
      }
      if (!consumer.assignment().equals(from.keySet())) {
        consumer.assign(from.keySet());
        from.forEach(consumer::seek);
      }
      from.forEach(
          (partition, offset) -> {
            if (consumer.position(partition) != offset) {
              consumer.seek(partition, offset);
            }
          });
      consumer.poll(WAIT);
    } catch (InterruptException | InterruptedException stopped) { // Spark stops a query by an interrupt, and knows this one
      throw new UncheckedIOException(new InterruptedIOException("the query is stopped"));
    } catch (KafkaException | JsonProcessingException failed) {
      close();
    }
  }

  void close() {
    if (consumer != null) {
      KafkaConsumer<byte[], byte[]> closing = consumer;
      consumer = null;
      try {
        closing.close(Duration.ZERO);
      } catch (KafkaException ignored) { // it holds no place that another needs
      }
    }
  }

  private static Map<TopicPartition, Long> parsed(String offsets) throws JsonProcessingException {
    Map<TopicPartition, Long> found = new HashMap<>();
    for (Map.Entry<String, JsonNode> topic : JSON.readTree(offsets).properties()) {
      for (Map.Entry<String, JsonNode> partition : topic.getValue().properties()) {
        int number = Integer.parseInt(partition.getKey());
        found.put(new TopicPartition(topic.getKey(), number), partition.getValue().asLong());
      }
    }
    return found;
  }
}
