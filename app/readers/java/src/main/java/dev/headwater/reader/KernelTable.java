package dev.headwater.reader;

import io.delta.kernel.CommitActions;
import io.delta.kernel.CommitRange;
import io.delta.kernel.CommitRangeBuilder.CommitBoundary;
import io.delta.kernel.Scan;
import io.delta.kernel.Snapshot;
import io.delta.kernel.TableManager;
import io.delta.kernel.data.ColumnVector;
import io.delta.kernel.data.ColumnarBatch;
import io.delta.kernel.data.FilteredColumnarBatch;
import io.delta.kernel.data.Row;
import io.delta.kernel.defaults.engine.DefaultEngine;
import io.delta.kernel.engine.Engine;
import io.delta.kernel.exceptions.KernelException;
import io.delta.kernel.exceptions.TableNotFoundException;
import io.delta.kernel.internal.DeltaLogActionUtils.DeltaAction;
import io.delta.kernel.internal.InternalScanFileUtils;
import io.delta.kernel.internal.data.ScanStateRow;
import io.delta.kernel.internal.util.PartitionUtils;
import io.delta.kernel.internal.util.Utils;
import io.delta.kernel.types.StringType;
import io.delta.kernel.types.StructField;
import io.delta.kernel.types.StructType;
import io.delta.kernel.utils.CloseableIterator;
import io.delta.kernel.utils.FileStatus;
import java.io.IOException;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.apache.hadoop.conf.Configuration;

/**
 * A Delta table through Delta Kernel.
 *
 * <p>Kernel's public API returns the actions of a range of commits ({@link CommitRange}), not the changed rows, so
 * this class interprets the actions. A commit with `cdc` files has its
 * changes in them. The changes of any other commit are the rows of the files that it added (inserted) and removed
 * (deleted), if it marks their data as changed: appends, and completely removed files.
 */
final class KernelTable {
  static final String FEED = "delta.enableChangeDataFeed";
  private static final String CHANGE = "_change_type";
  private static final Set<DeltaAction> ACTIONS =
      EnumSet.of(
          DeltaAction.ADD,
          DeltaAction.REMOVE,
          DeltaAction.CDC,
          DeltaAction.METADATA,
          DeltaAction.COMMITINFO);

  /** Called with one line; false: stop. */
  interface Sink {
    boolean take(String line) throws IOException;
  }

  /** Called at each version's end; false: stop. */
  interface Ends {
    boolean whole(long version) throws IOException;
  }

  private final Engine engine;
  private final String address;
  private final String path;

  KernelTable(String address, Configuration store) {
    this.engine = DefaultEngine.create(store);
    this.address = address;
    // Hadoop's file system for S3 has a scheme of its own.
    this.path = address.replaceFirst("^s3://", "s3a://");
  }

  /** The newest version there is now. */
  long newest() throws ReaderException {
    return snapshot(null).getVersion();
  }

  private Snapshot snapshot(Long version) throws ReaderException {
    try {
      var builder = TableManager.loadSnapshot(path);
      return (version == null ? builder : builder.atVersion(version)).build(engine);
    } catch (TableNotFoundException error) {
      throw new ReaderException(
          "there is no Delta table at " + address,
          "",
          "`./headwater sql 'SHOW TABLES'` lists silver's");
    } catch (KernelException error) {
      if (version != null) {
        throw ReaderException.gone(address, version, error);
      }
      throw new ReaderException("cannot open " + address, error.getMessage(), "");
    }
  }

  /** Give a version's rows, each as a `read`. */
  void rows(long version, Sink sink) throws IOException, ReaderException {
    Snapshot snapshot = snapshot(version);
    long time = committedAt(version, snapshot);
    Scan scan = snapshot.getScanBuilder().build();
    Row state = scan.getScanState(engine);
    StructType physical = ScanStateRow.getPhysicalDataReadSchema(state);
    try (CloseableIterator<FilteredColumnarBatch> batches = scan.getScanFiles(engine)) {
      while (batches.hasNext()) {
        try (CloseableIterator<Row> files = batches.next().getRows()) {
          while (files.hasNext()) {
            Row file = files.next();
            FileStatus status = InternalScanFileUtils.getAddFileStatus(file);
            try (CloseableIterator<FilteredColumnarBatch> data =
                Scan.transformPhysicalData(engine, state, file, read(status, physical))) {
              if (!give(data, version, time, sink)) {
                return;
              }
            }
          }
        }
      }
    }
  }

  private static boolean give(
      CloseableIterator<FilteredColumnarBatch> data, long version, long time, Sink sink)
      throws IOException {
    while (data.hasNext()) {
      FilteredColumnarBatch batch = data.next();
      Optional<ColumnVector> chosen = batch.getSelectionVector();
      for (int row = 0; row < batch.getData().getSize(); row++) {
        boolean there = chosen.isEmpty() || (!chosen.get().isNullAt(row) && chosen.get().getBoolean(row));
        if (there && !sink.take(Json.line(version, time, "read", batch.getData(), row, -1))) {
          return false;
        }
      }
    }
    return true;
  }

  private long committedAt(long version, Snapshot snapshot) throws IOException, ReaderException {
    try (CloseableIterator<CommitActions> commits = commits(snapshot, version);
        CommitActions actions = commits.next()) {
      return new Commit(actions).time;
    } catch (IOException error) {
      throw error;
    } catch (Exception error) { // also AutoCloseable's own
      return Json.NO_TIME; // its log entry is gone, and a checkpoint has the table
    }
  }

  /** Give the changes of versions `first` to `last`, in order; `ends` is called at each one's end. */
  void changes(long first, long last, Sink sink, Ends ends) throws IOException, ReaderException {
    Snapshot start = snapshot(first);
    if (!"true".equals(start.getTableProperties().get(FEED))) {
      throw ReaderException.noFeed(address, first);
    }
    Snapshot end = snapshot(last);
    try (CloseableIterator<CommitActions> commits = commits(start, last)) {
      while (commits.hasNext()) {
        try (CommitActions actions = commits.next()) {
          Commit commit = new Commit(actions);
          if (commit.feedOff) {
            throw ReaderException.noFeed(address, commit.version);
          }
          for (DataFile file : commit.changes()) {
            give(file, commit, end, sink);
          }
          if (!ends.whole(commit.version)) {
            return;
          }
        } catch (ReaderException | IOException | RuntimeException error) {
          throw error;
        } catch (Exception error) { // AutoCloseable's own
          throw new IOException(error);
        }
      }
    } catch (KernelException error) {
      throw ReaderException.gone(address, first, error);
    }
  }

  private CloseableIterator<CommitActions> commits(Snapshot start, long last) {
    CommitRange range =
        TableManager.loadCommitRange(path, CommitBoundary.atVersion(start.getVersion()))
            .withEndBoundary(CommitBoundary.atVersion(last))
            .build(engine);
    return range.getCommitActions(engine, start, ACTIONS);
  }

  /** The rows of one file of a commit, under the columns that the table has at the range's end. */
  private void give(DataFile file, Commit commit, Snapshot end, Sink sink) throws IOException {
    List<StructField> all = new ArrayList<>(end.getSchema().fields());
    if (file.change() == null) {
      all.add(new StructField(CHANGE, StringType.STRING, false));
    }
    List<StructField> stored = new ArrayList<>(all);
    stored.removeIf(field -> end.getPartitionColumnNames().contains(field.getName()));
    FileStatus status = FileStatus.of(path + "/" + file.path(), file.size(), 0);
    try (CloseableIterator<ColumnarBatch> batches = read(status, new StructType(stored))) {
      while (batches.hasNext()) {
        ColumnarBatch batch =
            PartitionUtils.withPartitionColumns(
                batches.next(), new StructType(all), file.partition(), engine.getExpressionHandler());
        int told = batch.getSchema().indexOf(CHANGE);
        for (int row = 0; row < batch.getSize(); row++) {
          String change = told < 0 ? file.change() : batch.getColumnVector(told).getString(row);
          sink.take(Json.line(commit.version, commit.time, change, batch, row, told));
        }
      }
    }
  }

  private CloseableIterator<ColumnarBatch> read(FileStatus file, StructType columns)
      throws IOException {
    return engine
        .getParquetHandler()
        .readParquetFiles(Utils.singletonCloseableIterator(file), columns, Optional.empty())
        .map(result -> result.getData());
  }
}
