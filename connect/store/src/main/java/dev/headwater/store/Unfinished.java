package dev.headwater.store;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.nio.file.attribute.UserDefinedFileAttributeView;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The files that the underlying store writes before an object exists: the object's name followed by
 * a UUID.
*
 * <p>A client's own object may have such a name (Trino's data files do), so the name alone proves
 * nothing. A file is unfinished if a put of the name before the UUID is in progress, or if it lacks
 * the digest that every whole object has. The latter files remain after the store died.
 */
final class Unfinished {
  private static final Pattern NAME =
      Pattern.compile("(.*)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", Pattern.DOTALL);
  private static final String DIGEST = "user.content-md5"; // the name that s3proxy gives it

  private final Path root;
  private final ConcurrentHashMap<String, Integer> writing = new ConcurrentHashMap<>();

  Unfinished(Path root) {
    this.root = root;
  }

  /** Notes that an object is being written, until {@link #ended}. */
  void begun(String bucket, String key) {
    writing.merge(bucket + "/" + key, 1, Integer::sum);
  }

  void ended(String bucket, String key) {
    writing.computeIfPresent(bucket + "/" + key, (name, count) -> count == 1 ? null : count - 1);
  }

  /** Whether a key that a listing found is not an object, or not any more. */
  boolean is(String bucket, String key) {
    Matcher name = NAME.matcher(key);
    if (!name.matches()) {
      return false;
    }
    if (writing.containsKey(bucket + "/" + name.group(1))) {
      return true;
    }
    // A put that ended after the name was read has removed its file, so the file is checked.
    try {
      var attributes =
          Files.getFileAttributeView(
              root.resolve(bucket).resolve(key), UserDefinedFileAttributeView.class);
      return attributes != null && !attributes.list().contains(DIGEST);
    } catch (InvalidPathException | IOException gone) {
      return true;
    }
  }
}
