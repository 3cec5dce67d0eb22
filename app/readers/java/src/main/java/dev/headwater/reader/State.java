package dev.headwater.reader;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

/** The last completely printed version, in a file format that all readers share: VERSION ADDRESS. */
final class State {
  private final Path path;
  private final String table;

  State(Path path, String table) {
    this.path = path;
    this.table = table;
  }

  /** The version to continue after; null if nothing was saved. */
  Long next() throws IOException, ReaderException {
    if (path == null || !Files.exists(path)) {
      return null;
    }
    String[] words = Files.readString(path).strip().split(" ", 2);
    if (words.length < 2 || !words[0].matches("\\d{1,18}")) {
      throw new ReaderException(
          path + " is not a reader's state", "", "remove it to begin anew");
    }
    if (!words[1].equals(table)) {
      throw new ReaderException(
          path + " is the state of " + words[1],
          "this run reads " + table,
          "give each table a file of its own");
    }
    return Long.parseLong(words[0]) + 1;
  }

  /** Record that a version is printed; the file is replaced atomically. */
  void keep(long version) throws IOException {
    if (path == null) {
      return;
    }
    long process = ProcessHandle.current().pid();
    Path beside = path.resolveSibling("." + path.getFileName() + "." + process);
    Files.writeString(beside, version + " " + table + "\n");
    Files.move(beside, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
  }
}
