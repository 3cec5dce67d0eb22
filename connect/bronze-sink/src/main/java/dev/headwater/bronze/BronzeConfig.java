package dev.headwater.bronze;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.AbstractConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.NonEmptyString;
import org.apache.kafka.common.config.ConfigDef.Range;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.config.ConfigDef.ValidString;
import org.apache.kafka.common.config.ConfigException;

/** The sink's own settings: typed, with bounds; README.md describes each, too. */
final class BronzeConfig extends AbstractConfig {
  static final String VERSION = "0.1.0";
  static final String KAFKA_PREFIX = "kafka.";
  private static final String ISOLATION = "consumer.override.isolation.level";
  private static final String INTERCEPTORS = "consumer.override.interceptor.classes";
  private static final List<String> OWN_PREFIXES =
      List.of("bucket", "s3.", "flush.", "buffer.", "gzip.", "put.", "retry.", "on.");

  static final ConfigDef DEF =
      new ConfigDef()
          .define("bucket", Type.STRING, ConfigDef.NO_DEFAULT_VALUE, new NonEmptyString(),
              Importance.HIGH, "The bucket that holds bronze. It must exist.")
          .define("s3.endpoint", Type.STRING, "", Importance.HIGH,
              "URL of the store; empty means AWS, by region.")
          .define("s3.region", Type.STRING, "us-east-1", new NonEmptyString(), Importance.MEDIUM,
              "The region that requests are signed for.")
          .define("s3.access.key", Type.PASSWORD, "", Importance.HIGH,
              "Access key; empty means the SDK's own chain (environment, profile, instance role).")
          .define("s3.secret.key", Type.PASSWORD, "", Importance.HIGH, "Secret key.")
          .define("s3.path.style", Type.BOOLEAN, true, Importance.LOW,
              "Address the bucket by path, not by host name.")
          .define("flush.interval.ms", Type.INT, 1000, Range.between(50, 3_600_000),
              Importance.HIGH, "The longest that a record waits for its object, even if it is alone.")
          .define("flush.records", Type.INT, 50_000, Range.between(1, 10_000_000),
              Importance.MEDIUM, "An object of this many records is put at once.")
          .define("flush.bytes", Type.INT, 8 << 20, Range.between(1024, 256 << 20),
              Importance.MEDIUM, "An object of this many bytes before compression is put at once.")
          .define("buffer.bytes.max", Type.INT, 32 << 20, Range.between(64 << 10, 1 << 30),
              Importance.MEDIUM, "All open partitions together hold at most this, uncompressed.")
          .define("gzip.level", Type.INT, 3, Range.between(1, 9), Importance.LOW,
              "1 is fastest, 9 is smallest.")
          .define("put.threads", Type.INT, 4, Range.between(1, 64), Importance.LOW,
              "Objects that one task puts at the same time.")
          .define("retry.backoff.ms.max", Type.INT, 5_000, Range.between(100, 600_000),
              Importance.LOW, "The longest wait between tries while the store is away.")
          .define("on.gap", Type.STRING, "fail", ValidString.in("fail", "skip"),
              Importance.MEDIUM, "What to do if Kafka has lost events that bronze lacks.")
          .define("kafka.bootstrap.servers", Type.STRING, ConfigDef.NO_DEFAULT_VALUE,
              new NonEmptyString(), Importance.HIGH,
              "The brokers; further kafka.* settings go to the same client (security).");

  BronzeConfig(Map<String, String> properties) {
    super(DEF, properties, false);
    String problem = problems(properties).stream().findFirst().orElse(null);
    if (problem != null) {
      throw new ConfigException(problem);
    }
  }

  /** Returns the conflicts between settings: a sentence for each, with what to write instead. */
  static List<String> problems(Map<String, String> properties) {
    List<String> found = new ArrayList<>();
    for (String key : properties.keySet()) {
      if (OWN_PREFIXES.stream().anyMatch(key::startsWith) && !DEF.names().contains(key)) {
        found.add("unknown setting `" + key + "`; the sink knows " + DEF.names());
      }
    }
    boolean hasKey = !properties.getOrDefault("s3.access.key", "").isEmpty();
    boolean hasSecret = !properties.getOrDefault("s3.secret.key", "").isEmpty();
    if (hasKey != hasSecret) {
      found.add("s3.access.key and s3.secret.key must be given together, or neither");
    }
    if (!"read_committed".equals(properties.get(ISOLATION))) {
      found.add(ISOLATION + " must be read_committed: events of an aborted transaction never"
          + " happened, and come again");
    }
    if (!properties.getOrDefault(INTERCEPTORS, "").contains(PositionInterceptor.class.getName())) {
      found.add(INTERCEPTORS + " must name " + PositionInterceptor.class.getName()
          + ": it distinguishes a lost event from a transaction marker");
    }
    if (!properties.getOrDefault("transforms", "").isBlank()) {
      found.add("transforms must be left out: bronze keeps records as they are, and records that a"
          + " transformation drops would be lost without a trace");
    }
    return found;
  }

  /** Settings of the Kafka client that reads the topics' first and last offsets. */
  Map<String, Object> kafka() {
    return originalsWithPrefix(KAFKA_PREFIX);
  }
}
