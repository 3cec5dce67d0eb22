package dev.headwater.spark;

import io.delta.storage.S3SingleDriverLogStore;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataOutputStreamBuilder;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;

/**
 * Delta's log on S3; each commit is put only if its version does not exist.
 *
 * <p>Delta's own store for S3 checks whether the file exists and then writes it, which is right only if one JVM
 * writes. Here delta-rs commits to the same tables, and an old driver may outlive its
 * parent for a moment, so the store itself must refuse the second of two equal versions
 * ({@code If-None-Match: *}). Listing needs no change, because S3 lists every object after its put.
 */
public final class ConditionalPutLogStore extends S3SingleDriverLogStore {
  private static final String CONDITIONAL = "fs.option.create.conditional.overwrite";
  // S3 answers 409 to one of two puts of a key at the same moment; a retry shows which one won.
  private static final int CONFLICT = 409;
  private static final int PRECONDITION_FAILED = 412;
  private static final int TRIES_MAX = 5;
  private static final long PAUSE_MS = 50;

  public ConditionalPutLogStore(Configuration configuration) {
    super(configuration);
  }

  @Override
  public void write(
      Path path, Iterator<String> actions, Boolean overwrite, Configuration configuration)
      throws IOException {
    StringBuilder text = new StringBuilder();
    while (actions.hasNext()) {
      text.append(actions.next()).append('\n');
    }
    byte[] content = text.toString().getBytes(StandardCharsets.UTF_8);
    FileSystem store = path.getFileSystem(configuration);
    if (overwrite) {
      try (OutputStream out = store.create(path, true)) {
        out.write(content);
      }
      return;
    }
    for (int tries = 1; ; tries++) {
      try {
        put(store, path, content);
        return;
      } catch (IOException error) {
        int status = status(error);
        if (status == PRECONDITION_FAILED || error instanceof org.apache.hadoop.fs.FileAlreadyExistsException) {
          throw taken(path, error);
        }
        if (status != CONFLICT || tries == TRIES_MAX) {
          throw error;
        }
        pause();
      }
    }
  }

  private static void put(FileSystem store, Path path, byte[] content) throws IOException {
    FSDataOutputStreamBuilder<?, ?> file = store.createFile(path).overwrite(true).recursive();
    file.must(CONDITIONAL, true);
    // The put happens in close(): an exception before it leaves nothing.
    try (OutputStream out = file.build()) {
      out.write(content);
    }
  }

  private static java.nio.file.FileAlreadyExistsException taken(Path path, IOException cause) {
    java.nio.file.FileAlreadyExistsException exception =
        new java.nio.file.FileAlreadyExistsException(path.toString());
    exception.initCause(cause);
    return exception;
  }

  /** The HTTP status of the AWS exception among the causes; 0 if there is none. */
  private static int status(Throwable error) {
    for (Throwable cause = error; cause != null; cause = cause.getCause()) {
      try {
        Object found = cause.getClass().getMethod("statusCode").invoke(cause);
        if (found instanceof Integer) {
          return (Integer) found;
        }
      } catch (ReflectiveOperationException none) {
        continue;
      }
    }
    return 0;
  }

  private static void pause() throws IOException {
    try {
      Thread.sleep(PAUSE_MS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new java.io.InterruptedIOException("interrupted while a commit was put");
    }
  }
}
