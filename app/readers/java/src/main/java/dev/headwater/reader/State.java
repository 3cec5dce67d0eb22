package dev.headwater.reader;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

/** The last version that was printed whole, in a file that all readers share: VERSION ADDRESS. */
final class State {
  private final Path path;
  private final String table;

  State(Path path, String table) {
    this.path = path;
    this.table = table;
  }

  /** The version to go on with; null where nothing was kept. */
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

  /** Remember that a version is printed; the file is replaced whole. */
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
