package dev.headwater.peers;

import java.util.function.Consumer;

/** The newest committed rows of the tables of one format. */
interface Lake {
  /** Names of the columns, in the order of a row's values. */
  String[] COLUMNS = {"id", "v", "note", "body", "price", "updated_at"};

  /**
   * Reads a table.
   *
   * @param id the only row to read; null reads all
   * @param rows gets each row: its values in the order of COLUMNS, as texts; null for NULL
   */
  void read(String table, Long id, Consumer<String[]> rows) throws Exception;
}
