package dev.headwater.peers;

import java.util.function.Consumer;
import org.apache.paimon.catalog.Catalog;
import org.apache.paimon.catalog.CatalogContext;
import org.apache.paimon.catalog.CatalogFactory;
import org.apache.paimon.catalog.Identifier;
import org.apache.paimon.data.InternalRow;
import org.apache.paimon.fs.Path;
import org.apache.paimon.predicate.PredicateBuilder;
import org.apache.paimon.reader.RecordReader;
import org.apache.paimon.table.Table;
import org.apache.paimon.table.source.ReadBuilder;

/** Paimon tables of database `lake` of a file system catalog, read by Paimon's own reader. */
final class PaimonLake implements Lake {
  private final Catalog catalog;

  PaimonLake(String warehouse) {
    catalog = CatalogFactory.createCatalog(CatalogContext.create(new Path(warehouse)));
  }

  @Override
  public void read(String name, Long id, Consumer<String[]> rows) throws Exception {
    Table table = catalog.getTable(Identifier.create("lake", name));
    ReadBuilder builder = table.newReadBuilder();
    if (id != null) {
      builder = builder.withFilter(new PredicateBuilder(table.rowType()).equal(0, id));
    }
    var read = builder.newRead().executeFilter();
    try (RecordReader<InternalRow> reader = read.createReader(builder.newScan().plan())) {
      reader.forEachRemaining(row -> rows.accept(texts(row)));
    }
  }

  private static String[] texts(InternalRow row) {
    return new String[] {
      Long.toString(row.getLong(0)),
      Integer.toString(row.getInt(1)),
      row.isNullAt(2) ? null : row.getString(2).toString(),
      row.isNullAt(3) ? null : row.getString(3).toString(),
      row.isNullAt(4) ? null : row.getDecimal(4, 12, 2).toBigDecimal().toPlainString(),
      row.isNullAt(5) ? null : row.getTimestamp(5, 6).toInstant().toString(),
    };
  }
}
