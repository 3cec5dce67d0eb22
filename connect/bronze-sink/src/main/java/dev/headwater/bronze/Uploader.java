package dev.headwater.bronze;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.RetriableException;

/** Puts the sealed objects of several partitions at the same time. */
final class Uploader implements AutoCloseable {
  // Well within the five minutes after which Kafka considers a silent consumer dead.
  private static final long ROUND_SECONDS_MAX = 120;

  private final Bucket bucket;
  private final ExecutorService threads;

  Uploader(Bucket bucket, int count) {
    this.bucket = bucket;
    this.threads = Executors.newFixedThreadPool(count);
  }

  /** The outcome of a round of puts; objects in neither group were stored. */
  record Outcome(List<TopicPartition> taken, Map<TopicPartition, RuntimeException> failed) {}

  /**
   * Puts every sealed object of {@code buffers}, and notes which were stored.
   *
   * @return the partitions whose object's name another task had taken, and those that failed
   */
  Outcome put(Map<TopicPartition, PartitionBuffer> buffers) {
    List<TopicPartition> order = new ArrayList<>(buffers.keySet());
    List<Callable<Boolean>> puts = new ArrayList<>();
    for (TopicPartition partition : order) {
      SealedObject object = buffers.get(partition).sealed;
      puts.add(() -> bucket.put(object));
    }
    var outcome = new Outcome(new ArrayList<>(), new HashMap<>());
    List<Future<Boolean>> answers = run(puts);
    for (int i = 0; i < order.size(); i++) {
      TopicPartition partition = order.get(i);
      try {
        if (answers.get(i).get()) {
          buffers.get(partition).settled();
        } else {
          outcome.taken.add(partition);
        }
      } catch (ExecutionException failed) {
        outcome.failed.put(
            partition,
            failed.getCause() instanceof RuntimeException known
                ? known
                : new ConnectException("could not put an object", failed.getCause()));
      } catch (CancellationException late) {
        String what = "puts took longer than " + ROUND_SECONDS_MAX + " s";
        outcome.failed.put(partition, new RetriableException(what, late));
      } catch (InterruptedException stopped) {
        throw interrupted(stopped);
      }
    }
    return outcome;
  }

  private List<Future<Boolean>> run(List<Callable<Boolean>> puts) {
    try {
      return threads.invokeAll(puts, ROUND_SECONDS_MAX, TimeUnit.SECONDS);
    } catch (InterruptedException stopped) {
      throw interrupted(stopped);
    }
  }

  private static RetriableException interrupted(InterruptedException stopped) {
    Thread.currentThread().interrupt();
    return new RetriableException("interrupted while putting objects", stopped);
  }

  @Override
  public void close() {
    threads.shutdownNow();
  }
}
