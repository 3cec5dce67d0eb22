package dev.headwater.positions;

import io.debezium.connector.postgresql.PostgresConnectorConfig;
import io.debezium.connector.postgresql.PostgresSchema;
import io.debezium.connector.postgresql.connection.PostgresConnection;
import io.debezium.connector.postgresql.connection.ReplicationMessage;
import io.debezium.connector.postgresql.connection.ReplicationMessage.Operation;
import io.debezium.relational.Column;
import io.debezium.relational.Table;
import io.debezium.relational.TableId;
import io.debezium.relational.TableSchema;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.source.SourceRecord;
import org.postgresql.core.BaseConnection;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Makes the END of each transaction count its events in the log, and gives each event its number
 * in the log.
 *
 * <p>After a restart Debezium continues to count at the number in its offset. Events that it leaves
 * out, because it takes them for delivered, are never counted, so nobody notices a loss. Here two
 * threads count. The stream's thread counts the events that a restart leaves out, as the server
 * sends them ({@link #leftOut}). Then the task's thread counts the polled events ({@link
 * #counted}).
 */
final class Counts {

  /** The header of each END: its counts include the whole transaction in the log. */
  static final String HEADER = "headwater.counted";

  private static final Logger LOG = LoggerFactory.getLogger(Counts.class);
  private static final String UNKNOWN_TYPES = "include.unknown.datatypes";
  private static final String TRANSACTION = "transaction";
  private static final String COLLECTIONS = "data_collections";
  private static final String COLLECTION = "data_collection";
  private static final String COUNT = "event_count";

  /** The events of one transaction: by table, and in all, with its logical messages. */
  private static final class Tally {
    final Map<String, Long> tables = new TreeMap<>();
    long all;
    boolean known = true;

    long add(String table) {
      return tables.merge(table, 1L, Long::sum);
    }
  }

  /** Counts by transaction; complete when the first event that is not left out can be polled. */
  private final Map<String, Tally> leftOut = new ConcurrentHashMap<>();

  private String polling;
  private Tally polled = new Tally();

  /** Begins again, as the task does. */
  synchronized void restart() {
    leftOut.clear();
    polling = null;
  }

  /** Counts a message that was delivered before the restart. */
  void leftOut(
      ReplicationMessage message,
      PostgresSchema schema,
      PostgresConnection connection,
      PostgresConnectorConfig config) {
    if (message.getTransactionId().isEmpty() || message.isSkippedMessage()) {
      return; // it is outside of transactions, or belongs to a table that is left out
    }
    Tally tally =
        leftOut.computeIfAbsent(
            Long.toString(message.getTransactionId().getAsLong()), made -> new Tally());
    try {
      Operation operation = message.getOperation();
      switch (operation) {
        case INSERT, UPDATE, DELETE, TRUNCATE -> {
          TableId table = TableId.parse(message.getTable(), false);
          if (config.getTableFilters().dataCollectionFilter().isIncluded(table)) {
            boolean moves =
                operation == Operation.UPDATE
                    && changesKey(message, schema, table, connection, config);
            for (int event = 0; event < (moves ? 2 : 1); event++) {
              tally.add(table.toString());
              tally.all++;
            }
          }
        }
        case MESSAGE -> tally.all++;
        default -> {}
      }
    } catch (SQLException | RuntimeException e) {
      tally.known = false;
      LOG.warn("events of transaction {} are not counted", message.getTransactionId(), e);
    }
  }

  /** Debezium makes two events of such an update, using the same comparison. */
  private static boolean changesKey(
      ReplicationMessage message,
      PostgresSchema schema,
      TableId id,
      PostgresConnection connection,
      PostgresConnectorConfig config)
      throws SQLException {
    List<ReplicationMessage.Column> old = message.getOldTupleList();
    TableSchema tableSchema = schema.schemaFor(id);
    if (old == null || old.isEmpty() || tableSchema == null) {
      return false;
    }
    Table table = schema.tableFor(id);
    Struct before = tableSchema.keyFromColumnData(values(old, table, connection, config));
    return before != null
        && !before.equals(
            tableSchema.keyFromColumnData(
                values(message.getNewTupleList(), table, connection, config)));
  }

  private static Object[] values(
      List<ReplicationMessage.Column> columns,
      Table table,
      PostgresConnection connection,
      PostgresConnectorConfig config) {
    Object[] values = new Object[Math.max(table.columns().size(), columns.size())];
    for (ReplicationMessage.Column column : columns) {
      Column known = table.columnWithName(column.getName());
      if (known != null && table.isPrimaryKeyColumn(column.getName())) {
        values[known.position() - 1] =
            column.getValue(
                () -> connection.connection().unwrap(BaseConnection.class),
                config.getConfig().getBoolean(UNKNOWN_TYPES, false));
      }
    }
    return values;
  }

  /** Returns the polled records with numbers and counts by the log. */
  synchronized List<SourceRecord> counted(List<SourceRecord> records) {
    if (records != null) {
      records.forEach(this::count);
    }
    return records;
  }

  private void count(SourceRecord record) {
    if (!(record.value() instanceof Struct value)) {
      return;
    }
    if (value.schema().field(COLLECTIONS) != null) {
      enter(value.getString("id"));
      if ("END".equals(value.getString("status")) && polled.known) {
        end(value);
        record.headers().addLong(HEADER, 1);
      }
    } else if (value.schema().field(TRANSACTION) != null) {
      Struct block = value.getStruct(TRANSACTION);
      if (block != null) {
        enter(block.getString("id"));
        number(block, value);
      }
    }
  }

  /** The id in the block is that of the transaction, followed by a log position. */
  private void enter(String id) {
    String transaction = id.substring(0, id.indexOf(':'));
    if (!transaction.equals(polling)) {
      polling = transaction;
      Tally before = leftOut.remove(transaction);
      polled = before == null ? new Tally() : before;
    }
  }

  private void number(Struct block, Struct value) {
    polled.all++;
    boolean isRow = !"m".equals(value.getString("op"));
    Struct source = value.getStruct("source");
    long number =
        isRow ? polled.add(source.getString("schema") + "." + source.getString("table")) : 1;
    if (polled.known) {
      block.put("total_order", polled.all);
      if (isRow) {
        block.put("data_collection_order", number);
      }
    }
  }

  /** Debezium's own list, in its order, with these counts; tables that it lacks come last. */
  private void end(Struct value) {
    Map<String, Long> rest = new TreeMap<>(polled.tables);
    List<Struct> all = new ArrayList<>();
    for (Object one : value.getArray(COLLECTIONS)) {
      Struct collection = (Struct) one;
      Long events = rest.remove(collection.getString(COLLECTION));
      if (events != null) {
        collection.put(COUNT, events);
      }
      all.add(collection); // not counted here: logical messages, under their own names
    }
    Schema schema = value.schema().field(COLLECTIONS).schema().valueSchema();
    rest.forEach(
        (table, events) -> all.add(new Struct(schema).put(COLLECTION, table).put(COUNT, events)));
    value.put(COLLECTIONS, all);
    value.put(COUNT, polled.all);
    polling = null;
  }
}
