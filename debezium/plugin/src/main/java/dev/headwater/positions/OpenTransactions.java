package dev.headwater.positions;

import io.debezium.config.Configuration;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionListing;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.errors.ConnectException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Checks, before the first records of a start are sent, whether a partition of the capture still has a transaction
 * open that its coordinator has ended.
 *
 * <p>A broker may omit an end's marker in some partitions (KAFKA-20734). There the records of the same producer's
 * next transaction become part of the open one. So its commit would also commit aborted records, which are sent again
 * now. `capture` ends such transactions
 * as their coordinator had decided.
 */
final class OpenTransactions implements AutoCloseable {

  private static final Logger LOG = LoggerFactory.getLogger(OpenTransactions.class);
  private static final String CLIENT = "kafka."; // the prefix of our own client's settings
  private static final Duration WITHIN = Duration.ofSeconds(120);
  private static final Duration AGAIN = Duration.ofMillis(500);
  private static final Set<TransactionState> UNDER_WAY =
      Set.of(
          TransactionState.ONGOING,
          TransactionState.PREPARE_COMMIT,
          TransactionState.PREPARE_ABORT,
          TransactionState.PREPARE_EPOCH_FENCE);

  private record Open(long producer, TopicPartition partition) {}

  private final String topics;
  private final Admin admin;
  private final long limit = System.nanoTime() + WITHIN.toNanos();
  private boolean said;

  private OpenTransactions(Admin admin, String topics) {
    this.admin = admin;
    this.topics = topics;
  }

  /** For one start; null if the configuration names no Kafka. */
  static OpenTransactions of(Configuration config) {
    Map<String, Object> client = new HashMap<>(config.subset(CLIENT, true).asMap());
    if (!client.containsKey("bootstrap.servers")) {
      return null;
    }
    client.putIfAbsent("client.id", "open-transactions");
    client.putIfAbsent("default.api.timeout.ms", "30000");
    client.putIfAbsent("request.timeout.ms", "15000");
    return new OpenTransactions(Admin.create(client), config.getString("topic.prefix") + ".");
  }

  /**
   * Whether a transaction hangs; if so, it returns after half a second, and is called again.
   *
   * @throws ConnectException if one still does after two minutes
   */
  boolean hang() throws InterruptedException {
    Set<Open> left;
    try {
      left = left();
    } catch (ExecutionException e) {
      LOG.warn("it is not known whether Kafka left a transaction open; going on", e);
      return false;
    }
    if (left.isEmpty()) {
      return false;
    }
    if (!said) {
      LOG.warn("waiting until transactions that Kafka left open are ended: {}", left);
      said = true;
    }
    if (System.nanoTime() > limit) {
      throw new ConnectException(
          "Kafka left transactions open, and nobody has ended them within "
              + WITHIN.toSeconds() + " s: " + left
              + "\nhint: `capture` does; is it running, and may it (Alter on the cluster)?"
              + " `kafka-transactions.sh abort` does it by hand");
    }
    Thread.sleep(AGAIN.toMillis());
    return true;
  }

  @Override
  public void close() {
    admin.close(Duration.ZERO);
  }

  /** The transactions that are open in partitions and not in progress at a coordinator. */
  private Set<Open> left() throws ExecutionException, InterruptedException {
    Set<Open> open = open();
    if (open.isEmpty()) {
      return open;
    }
    Set<Long> producers = new HashSet<>();
    open.forEach(one -> producers.add(one.producer()));
    var asked = new ListTransactionsOptions().filterProducerIds(producers);
    List<String> names = new ArrayList<>();
    for (TransactionListing listing : admin.listTransactions(asked).all().get()) {
      if (UNDER_WAY.contains(listing.state())) {
        names.add(listing.transactionalId());
      }
    }
    Collection<TransactionDescription> described =
        admin.describeTransactions(names).all().get().values();
    for (TransactionDescription one : described) {
      if (UNDER_WAY.contains(one.state())) {
        one.topicPartitions().forEach(p -> open.remove(new Open(one.producerId(), p)));
      }
    }
    return open;
  }

  private Set<Open> open() throws ExecutionException, InterruptedException {
    List<String> ours =
        admin.listTopics().names().get().stream().filter(n -> n.startsWith(topics)).toList();
    List<TopicPartition> partitions = new ArrayList<>();
    admin
        .describeTopics(ours)
        .allTopicNames()
        .get()
        .forEach(
            (name, topic) ->
                topic
                    .partitions()
                    .forEach(each -> partitions.add(new TopicPartition(name, each.partition()))));
    Set<Open> open = new HashSet<>();
    admin
        .describeProducers(partitions)
        .all()
        .get()
        .forEach(
            (partition, state) ->
                state.activeProducers().stream()
                    .filter(one -> one.currentTransactionStartOffset().isPresent())
                    .forEach(one -> open.add(new Open(one.producerId(), partition))));
    return open;
  }
}
