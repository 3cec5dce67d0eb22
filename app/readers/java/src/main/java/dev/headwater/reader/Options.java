package dev.headwater.reader;

import java.nio.file.Path;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;

/** A run's options: its table, its beginning and end, and the store. */
final class Options {
  static final long ROWS_MAX = 1_000_000;
  private static final String USAGE =
      "usage: java-reader TABLE [--from VERSION] [--state FILE] [--seconds S] [--rows-max N]\n\n"
          + "Print a Delta table's rows, or its changes by version, as lines of JSON.\n"
          + "  TABLE           a silver table, as `orders`, or an address, s3://…\n"
          + "  --from VERSION  changes from this version on\n"
          + "  --state FILE    go on where the run before this one ended\n"
          + "  --seconds S     wait so long for newer versions (0: not at all)\n"
          + "  --rows-max N    end after the version that reaches so many lines (" + ROWS_MAX + ")";

  String table = "";
  Long first;
  Path state;
  double seconds;
  long rowsMax = ROWS_MAX;

  /** Wrong usage: the mistake, and the usage. */
  static final class UsageException extends Exception {
    private static final long serialVersionUID = 1L;

    UsageException(String message) {
      super(USAGE + (message.isEmpty() ? "" : "\n\n" + message));
    }
  }

  static Options parse(String[] arguments, Map<String, String> environment)
      throws UsageException {
    Options found = new Options();
    for (int at = 0; at < arguments.length; at++) {
      String word = arguments[at];
      if (word.equals("--help") || word.equals("-h")) {
        throw new UsageException("");
      }
      if (!word.startsWith("--")) {
        if (!found.table.isEmpty()) {
          throw new UsageException("one table at a time: " + word);
        }
        found.table = address(word, environment.getOrDefault("HEADWATER_LAKE_BUCKET", "lake"));
        continue;
      }
      if (++at == arguments.length) {
        throw new UsageException(word + " needs a value");
      }
      found.set(word, arguments[at]);
    }
    if (found.table.isEmpty()) {
      throw new UsageException("a table is needed");
    }
    return found;
  }

  private void set(String name, String value) throws UsageException {
    try {
      switch (name) {
        case "--from" -> first = count(value);
        case "--state" -> state = Path.of(value);
        case "--seconds" -> seconds = Double.parseDouble(value);
        case "--rows-max" -> rowsMax = count(value);
        default -> throw new UsageException("there is no option " + name);
      }
    } catch (IllegalArgumentException error) {
      throw new UsageException(name + " cannot be " + value);
    }
  }

  private static long count(String value) {
    long number = Long.parseLong(value);
    if (number < 0) {
      throw new NumberFormatException(value);
    }
    return number;
  }

  /** A table's address: a silver table is named alone, any other one by s3://…. */
  static String address(String table, String bucket) {
    if (table.contains("://")) {
      return table.endsWith("/") ? table.substring(0, table.length() - 1) : table;
    }
    return "s3://" + bucket + "/silver/" + table;
  }

  /** Hadoop's settings of the store. Without keys S3A's own chain is used (a pod's role, say). */
  static Configuration store(Map<String, String> environment) throws ReaderException {
    String access = environment.getOrDefault("HEADWATER_S3_ACCESS_KEY", "");
    String secret = environment.getOrDefault("HEADWATER_S3_SECRET_KEY", "");
    if (access.isEmpty() != secret.isEmpty()) {
      String missing = access.isEmpty() ? "HEADWATER_S3_ACCESS_KEY" : "HEADWATER_S3_SECRET_KEY";
      throw new ReaderException(
          missing + " is not set", "", "set both keys of the store, or neither of them");
    }
    Configuration store = new Configuration();
    store.set("fs.s3a.impl", "org.apache.hadoop.fs.s3a.S3AFileSystem");
    store.set("fs.s3a.endpoint.region", environment.getOrDefault("HEADWATER_S3_REGION", "us-east-1"));
    store.set("fs.s3a.path.style.access", "true");
    String endpoint = environment.getOrDefault("HEADWATER_S3_ENDPOINT", "");
    if (!endpoint.isEmpty()) {
      store.set("fs.s3a.endpoint", endpoint);
      store.set("fs.s3a.connection.ssl.enabled", String.valueOf(!endpoint.startsWith("http://")));
    }
    if (!access.isEmpty()) {
      store.set("fs.s3a.access.key", access);
      store.set("fs.s3a.secret.key", secret);
      store.set(
          "fs.s3a.aws.credentials.provider",
          "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider");
    }
    // A store that does not answer is reported within a minute, not within a quarter of an hour.
    store.set("fs.s3a.attempts.maximum", "5");
    store.set("fs.s3a.retry.limit", "4");
    return store;
  }
}
