package dev.headwater.reader;

import io.delta.kernel.CommitActions;
import io.delta.kernel.data.ColumnVector;
import io.delta.kernel.data.ColumnarBatch;
import io.delta.kernel.utils.CloseableIterator;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** One commit: its version and time, and the files with its changes. */
final class Commit {
  final long version;
  boolean feedOff;
  long time;
  private final List<DataFile> told = new ArrayList<>();
  private final List<DataFile> implied = new ArrayList<>();

  Commit(CommitActions actions) throws IOException {
    version = actions.getVersion();
    time = actions.getTimestamp();
    try (CloseableIterator<ColumnarBatch> batches = actions.getActions()) {
      while (batches.hasNext()) {
        ColumnarBatch batch = batches.next();
        for (int row = 0; row < batch.getSize(); row++) {
          take(batch, row);
        }
      }
    }
  }

  /** The feed's own files if there are any, otherwise the added and removed files. */
  List<DataFile> changes() {
    return told.isEmpty() ? implied : told;
  }

  private void take(ColumnarBatch batch, int row) {
    for (int column = 0; column < batch.getSchema().length(); column++) {
      ColumnVector action = batch.getColumnVector(column);
      if (action.isNullAt(row)) {
        continue;
      }
      switch (batch.getSchema().at(column).getName()) {
        case "cdc" -> told.add(DataFile.of(action, row, null));
        case "add" -> imply(action, row, "insert");
        case "remove" -> imply(action, row, "delete");
        case "commitInfo" -> time = time(action, row);
        case "metaData" -> {
          var properties = DataFile.map(DataFile.child(action, "configuration").getMap(row));
          feedOff = !"true".equals(properties.get(KernelTable.FEED));
        }
        default -> {}
      }
    }
  }

  private void imply(ColumnVector action, int row, String change) {
    // Files that were only compacted have no changes.
    if (DataFile.child(action, "dataChange").getBoolean(row)) {
      implied.add(DataFile.of(action, row, change));
    }
  }

  /** The commit's own time, or the store's if it has none. */
  private long time(ColumnVector info, int row) {
    for (String name : List.of("inCommitTimestamp", "timestamp")) {
      ColumnVector found = DataFile.child(info, name);
      if (found != null && !found.isNullAt(row)) {
        return found.getLong(row);
      }
    }
    return time;
  }
}
