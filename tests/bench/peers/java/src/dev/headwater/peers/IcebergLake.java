package dev.headwater.peers;

import java.math.BigDecimal;
import java.time.OffsetDateTime;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.Table;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.data.IcebergGenerics;
import org.apache.iceberg.data.Record;
import org.apache.iceberg.expressions.Expressions;
import org.apache.iceberg.hadoop.HadoopCatalog;

/** Iceberg tables of database `lake` of a Hadoop catalog, read by Iceberg's own reader. */
final class IcebergLake implements Lake {
  private final HadoopCatalog catalog;
  private final Map<String, Table> tables = new HashMap<>();

  IcebergLake(String warehouse) {
    catalog = new HadoopCatalog(new Configuration(), warehouse);
  }

  @Override
  public void read(String name, Long id, Consumer<String[]> rows) throws Exception {
    Table table = tables.get(name);
    if (table == null) {
      table = catalog.loadTable(TableIdentifier.of("lake", name));
      tables.put(name, table);
    }
    table.refresh();
    var scan = IcebergGenerics.read(table).select(COLUMNS);
    if (id != null) {
      scan = scan.where(Expressions.equal("id", id));
    }
    try (var found = scan.build()) {
      for (Record row : found) {
        String[] values = new String[COLUMNS.length];
        for (int i = 0; i < COLUMNS.length; i++) {
          values[i] = text(row.getField(COLUMNS[i]));
        }
        rows.accept(values);
      }
    }
  }

  private static String text(Object value) {
    if (value instanceof BigDecimal number) {
      return number.toPlainString();
    }
    if (value instanceof OffsetDateTime time) {
      return time.toInstant().toString();
    }
    return value == null ? null : value.toString();
  }
}
