package dev.headwater.bronze;

import java.io.BufferedReader;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;
import java.util.zip.ZipException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.RetriableException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.checksums.RequestChecksumCalculation;
import software.amazon.awssdk.core.checksums.ResponseChecksumValidation;
import software.amazon.awssdk.core.exception.SdkException;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.apache5.Apache5HttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.ListObjectsV2Response;
import software.amazon.awssdk.services.s3.model.S3Exception;
import software.amazon.awssdk.services.s3.model.S3Object;

/**
 * The bucket of bronze: its objects hold the events and so show how far each partition is stored.
*
 * <p>Every method throws RetriableException if the store does not answer or is busy, and
 * ConnectException if trying again cannot help.
 */
final class Bucket implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Bucket.class);
  private static final Pattern OFFSET =
      Pattern.compile("^\\{\"topic\":\"[^\"]*\",\"partition\":\\d+,\"offset\":(\\d+),");
  private static final Pattern DIGITS = Pattern.compile("\\d{1,18}");
  private static final String RESTORE = "\nhint: restore the object from a copy of the bucket";
  private static final String PROBE = "_headwater/conditional-put";
  private static final String NOTES = "_headwater/bronze-stopped/";

  /** The last object of a partition; topicId is empty if the object does not have it. */
  record Last(String key, long offset, String topicId) {}

  private final String name;
  private final S3Client s3;

  Bucket(BronzeConfig config) {
    name = config.getString("bucket");
    var builder =
        S3Client.builder()
            .region(Region.of(config.getString("s3.region")))
            .forcePathStyle(config.getBoolean("s3.path.style"))
            .httpClientBuilder(
                Apache5HttpClient.builder()
                    .maxConnections(config.getInt("put.threads") + 1)
                    .connectionTimeout(Duration.ofSeconds(5))
                    .socketTimeout(Duration.ofSeconds(20)))
            // Newer default checksums are trailers that many S3 stores do not read; Content-MD5
            // (see put) does the same job everywhere.
            .requestChecksumCalculation(RequestChecksumCalculation.WHEN_REQUIRED)
            .responseChecksumValidation(ResponseChecksumValidation.WHEN_REQUIRED)
            .overrideConfiguration(
                o ->
                    o.apiCallAttemptTimeout(Duration.ofSeconds(20))
                        .apiCallTimeout(Duration.ofSeconds(30)));
    if (!config.getString("s3.endpoint").isEmpty()) {
      builder.endpointOverride(URI.create(config.getString("s3.endpoint")));
    }
    String accessKey = config.getPassword("s3.access.key").value();
    if (!accessKey.isEmpty()) {
      String secretKey = config.getPassword("s3.secret.key").value();
      builder.credentialsProvider(
          StaticCredentialsProvider.create(AwsBasicCredentials.create(accessKey, secretKey)));
    }
    s3 = builder.build();
  }

  /** Makes sure that the store honours `If-None-Match: *`: exactly once depends on it. */
  void requireConditionalPuts() {
    if (tryPut(PROBE, new byte[0], Map.of()) && tryPut(PROBE, new byte[0], Map.of())) {
      throw new ConnectException(
          "the object store overwrote an object in spite of `If-None-Match: *` (bucket " + name
              + ")\nhint: use a store that honours it, as AWS S3 and s3proxy do; without it two"
              + " tasks could overwrite each other's events");
    }
  }

  /** Whether the store accepts a small object now; if so, the fault is in the refused object. */
  boolean answers() {
    try {
      tryPut(PROBE, new byte[0], Map.of());
      return true;
    } catch (RuntimeException away) {
      return false;
    }
  }

  /** Writes a note that a partition is stopped; if that fails, only the log says so. */
  void note(TopicPartition partition, String why, long sinceMs) {
    String text =
        "{\"since_ms\":%d,\"at_ms\":%d,\"why\":\"%s\"}"
            .formatted(sinceMs, System.currentTimeMillis(), JsonText.escaped(why));
    try {
      s3.putObject(r -> r.bucket(name).key(noteKey(partition)), RequestBody.fromString(text));
    } catch (SdkException failed) {
      LOG.warn("could not write {}: {}", noteKey(partition), failed.getMessage());
    }
  }

  /** Removes the notes of partitions that continue. */
  void unnote(Collection<TopicPartition> partitions) {
    try {
      Set<String> noted = new HashSet<>();
      s3.listObjectsV2Paginator(r -> r.bucket(name).prefix(NOTES))
          .contents()
          .forEach(note -> noted.add(note.key()));
      for (TopicPartition partition : partitions) {
        if (noted.contains(noteKey(partition))) {
          s3.deleteObject(r -> r.bucket(name).key(noteKey(partition)));
        }
      }
    } catch (SdkException failed) {
      // A note that is not written again is ignored after some minutes.
      LOG.warn("could not remove notes below {}: {}", NOTES, failed.getMessage());
    }
  }

  private static String noteKey(TopicPartition partition) {
    return NOTES + partition.topic() + "/" + partition.partition() + ".json";
  }

  /**
   * Puts an object that must not exist yet.
   *
   * @return false if another task has put an object under that name
   */
  boolean put(SealedObject object) {
    if (tryPut(object.key(), object.body(), object.metadata())) {
      return true;
    }
    // If an answer was lost, our own object looks like another task's: the seal shows whose it is.
    return object.seal().equals(metadata(object.key()).get(SealedObject.SEAL));
  }

  private boolean tryPut(String key, byte[] body, Map<String, String> metadata) {
    try {
      s3.putObject(
          r ->
              r.bucket(name)
                  .key(key)
                  .ifNoneMatch("*")
                  .contentType("application/gzip")
                  .contentMD5(Digests.md5(body))
                  .metadata(metadata),
          RequestBody.fromBytes(body));
      return true;
    } catch (S3Exception refused) {
      if (refused.statusCode() == 412) {
        return false;
      }
      throw explained("put " + key, refused);
    } catch (SdkException away) {
      throw explained("put " + key, away);
    }
  }

  /** The last object below {@code prefix}, or null; lists its blocks, then one of them. */
  Last last(String prefix) {
    List<String> blocks = new ArrayList<>();
    list(prefix, "/", page -> page.commonPrefixes().forEach(block -> blocks.add(block.prefix())));
    for (int i = blocks.size() - 1; i >= 0; i--) {
      String key = lastKey(blocks.get(i));
      if (key != null) {
        return described(key);
      }
    }
    return null;
  }

  private String lastKey(String block) {
    String[] last = new String[1];
    list(
        block,
        null,
        page -> {
          for (S3Object object : page.contents()) {
            if (SealedObject.holdsNothing(object.key())) {
              continue;
            }
            if (SealedObject.firstOffset(object.key()) < 0) {
              throw new PartitionTrouble(
                  "s3://" + name + "/" + object.key() + " is not an object of the sink"
                      + "\nhint: give bronze a bucket of its own");
            }
            last[0] = object.key();
          }
        });
    return last[0];
  }

  private void list(String prefix, String delimiter, Consumer<ListObjectsV2Response> each) {
    try {
      s3.listObjectsV2Paginator(r -> r.bucket(name).prefix(prefix).delimiter(delimiter))
          .forEach(each);
    } catch (SdkException away) {
      throw explained("list " + prefix, away);
    }
  }

  private Last described(String key) {
    Map<String, String> metadata = metadata(key);
    String last = metadata.get(SealedObject.LAST_OFFSET);
    // A tool that copied the bucket may have dropped the metadata; the lines hold it, too.
    long offset = last != null && DIGITS.matcher(last).matches()
        ? Long.parseLong(last)
        : lastOffsetInside(key);
    if (offset < SealedObject.firstOffset(key)) {
      throw new PartitionTrouble(
          "s3://" + name + "/" + key + " says that it ends at offset " + offset
              + ", before it begins" + RESTORE);
    }
    return new Last(key, offset, metadata.getOrDefault(SealedObject.TOPIC_ID, ""));
  }

  private Map<String, String> metadata(String key) {
    try {
      return s3.headObject(r -> r.bucket(name).key(key)).metadata();
    } catch (SdkException away) {
      throw explained("read the metadata of " + key, away);
    }
  }

  private long lastOffsetInside(String key) {
    try (var lines =
        new BufferedReader(
            new InputStreamReader(
                new GZIPInputStream(s3.getObject(r -> r.bucket(name).key(key))),
                StandardCharsets.UTF_8))) {
      long last = -1;
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        Matcher offset = OFFSET.matcher(line);
        if (offset.find()) {
          last = Long.parseLong(offset.group(1));
        }
      }
      if (last >= 0) {
        return last;
      }
      throw new PartitionTrouble(
          "s3://" + name + "/" + key + " holds no line of the sink's form" + RESTORE);
    } catch (ZipException | EOFException damaged) {
      throw new PartitionTrouble(
          "s3://" + name + "/" + key + " cannot be unpacked: " + damaged.getMessage() + RESTORE,
          damaged);
    } catch (SdkException | IOException away) {
      throw explained("read " + key, away);
    }
  }

  private RuntimeException explained(String doing, Exception cause) {
    int status = cause instanceof S3Exception s ? s.statusCode() : 0;
    String what = "could not " + doing + " in bucket " + name + ": " + cause.getMessage();
    // 409: another conditional put of the same name is under way; 408, 429 and 5xx: busy.
    boolean retry = status < 400 || status == 408 || status == 409 || status == 429 || status >= 500;
    if (retry) {
      return new RetriableException(what, cause);
    }
    return new ConnectException(
        what + "\nhint: check that the bucket is there and that s3.endpoint, s3.access.key and"
            + " s3.secret.key are right",
        cause);
  }

  @Override
  public void close() {
    s3.close();
  }
}
