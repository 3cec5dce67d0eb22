package dev.headwater.reader;

import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Prints a Delta table's rows, or its changes by version, as lines of JSON.
 *
 * <ol>
 *   <li>Begin at --from, or after the state, or with the rows of the newest version.
 *   <li>Print the changes of each version in order; then save the last version.
 *   <li>End when there is no newer version and the time is over, or when --rows-max is reached:
 *       never within a version.
 * </ol>
 */
public final class Reader {
  private static final String SERVICE = "java-reader";
  // The versions that may be printed again after a kill.
  private static final long VERSIONS_AT_ONCE = 20;
  private static final long POLL_MS = 1_000;
  private static final long END_WITHIN_S = 20;

  private final Options options;
  private final KernelTable table;
  private final OutputStream out =
      new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16);
  private final CountDownLatch stop = new CountDownLatch(1);
  private final CountDownLatch finished = new CountDownLatch(1);
  private long lines;
  private long version = -1;

  private Reader(Options options, KernelTable table) {
    this.options = options;
    this.table = table;
  }

  public static void main(String[] arguments) throws IOException {
    Map<String, String> environment = System.getenv();
    Options options;
    Run run;
    Reader reader;
    try {
      options = Options.parse(arguments, environment);
      run = new Run(SERVICE, environment);
      reader = new Reader(options, new KernelTable(options.table, Options.store(environment)));
    } catch (Options.UsageException error) {
      System.err.println(error.getMessage());
      System.exit(2);
      return;
    } catch (ReaderException error) {
      System.err.println(error.told());
      System.exit(1);
      return;
    }
    Runtime.getRuntime().addShutdownHook(new Thread(reader::end, "stop"));
    System.exit(reader.run(run));
  }

  /** SIGTERM: end at the next version's end. The process ends when this returns. */
  private void end() {
    stop.countDown();
    try {
      finished.await(END_WITHIN_S, TimeUnit.SECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private int run(Run run) {
    StringBuilder told = new StringBuilder("{\"table\": ");
    Json.text(told, options.table);
    run.state("started", "", told + "}");
    try {
      try {
        follow();
      } finally {
        out.flush();
      }
      run.log("INFO", lines + " lines of " + options.table + ", to version " + version);
      run.state("ended", "", told + ", \"lines\": " + lines + ", \"version\": " + version + "}");
      return 0;
    } catch (ReaderException error) {
      run.log("ERROR", error.told());
      run.state("failed", error.getMessage(), told + "}");
      return 1;
    } catch (IOException | RuntimeException | InterruptedException error) {
      error.printStackTrace();
      run.state("failed", error.toString(), told + "}");
      return 1;
    } finally {
      finished.countDown();
    }
  }

  private void follow() throws IOException, ReaderException, InterruptedException {
    State state = new State(options.state, options.table);
    long deadline = System.nanoTime() + (long) (options.seconds * 1e9);
    Long kept = state.next();
    Long first = options.first != null ? options.first : kept;
    if (first == null) {
      long newest = table.newest();
      if (!rows(newest)) {
        return; // interrupted: there is no complete version after which to continue
      }
      state.keep(newest);
      first = newest + 1;
    }
    long following = first;
    while (stop.getCount() > 0) {
      long newest = table.newest();
      if (following > newest + 1) {
        throw new ReaderException(
            options.table + " has no version " + following,
            "its newest one is " + newest,
            "the table was made again: remove the state, or give a lower --from");
      }
      while (following <= newest && stop.getCount() > 0) {
        changes(following, Math.min(newest, following + VERSIONS_AT_ONCE - 1));
        state.keep(version);
        following = version + 1;
        if (lines >= options.rowsMax && version < newest) {
          return;
        }
      }
      long left = (deadline - System.nanoTime()) / 1_000_000;
      if (left <= 0 || lines >= options.rowsMax) {
        return;
      }
      stop.await(Math.min(POLL_MS, left), TimeUnit.MILLISECONDS);
    }
  }

  /** Returns: all rows are printed. */
  private boolean rows(long newest) throws IOException, ReaderException {
    boolean[] whole = {true};
    table.rows(
        newest,
        line -> {
          whole[0] = lines < options.rowsMax && stop.getCount() > 0;
          if (whole[0]) {
            print(line);
          }
          return whole[0];
        });
    out.flush();
    if (!whole[0] && options.state != null && stop.getCount() > 0) {
      throw new ReaderException(
          options.table + " has more than " + options.rowsMax + " rows",
          "a state needs all of them, and none is kept",
          "raise --rows-max, or begin with --from VERSION");
    }
    version = whole[0] ? newest : version;
    return whole[0];
  }

  private void changes(long first, long last) throws IOException, ReaderException {
    table.changes(
        first,
        last,
        line -> {
          print(line);
          return true;
        },
        ended -> {
          version = ended;
          return lines < options.rowsMax && stop.getCount() > 0;
        });
    out.flush();
  }

  private void print(String line) throws IOException {
    out.write(line.getBytes(StandardCharsets.UTF_8));
    out.write('\n');
    lines++;
  }
}
