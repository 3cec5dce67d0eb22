package dev.headwater.postgres;

import io.debezium.spi.converter.CustomConverter;
import io.debezium.spi.converter.RelationalColumn;
import java.sql.Types;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.connect.data.SchemaBuilder;

/**
 * Sends every column whose type Debezium would change, cut or drop as PostgreSQL's own text.
 *
 * <p>Arrays, time, timetz, date, interval, bit strings, ranges, geometry, composites and whatever
 * else is not in {@link #CARRIED_EXACTLY} arrive as {@code column::text} would print them under
 * TimeZone UTC, DateStyle ISO, IntervalStyle postgres; bytea in base64. An unchanged TOAST value
 * becomes Debezium's own placeholder, which Debezium itself forgets for bytea: it would send NULL.
 *
 * <p>A real arrives as the double that a cast of it gives, not by its shortest digits. If the
 * column is later widened to double precision, events from before and after that then give the same
 * value.
 */
public final class TextConverter implements CustomConverter<SchemaBuilder, RelationalColumn> {

  // Type identifiers (pg_type.oid) that Debezium carries losslessly in the modes of connector.json.
  // A domain is seen here by the identifier of its base type.
  private static final Set<Integer> CARRIED_EXACTLY =
      Set.of(
          16, // boolean
          18, // "char"
          19, // name
          20, // bigint
          21, // smallint
          23, // integer
          25, // text
          26, // oid
          114, // json
          701, // double precision
          790, // money
          1042, // character
          1043, // character varying
          1114, // timestamp
          1184, // timestamptz
          1700, // numeric
          2950, // uuid
          3802); // jsonb

  private static final int REAL = 700;

  @Override
  public void configure(Properties settings) {
    // There are no settings: the types alone decide which columns are converted.
  }

  @Override
  public void converterFor(
      RelationalColumn column, ConverterRegistration<SchemaBuilder> registration) {
    // The driver reports VARCHAR for an enum, which Debezium sends as its label.
    if (CARRIED_EXACTLY.contains(column.nativeType()) || column.jdbcType() == Types.VARCHAR) {
      return;
    }
    String where = column.dataCollection() + "." + column.name() + " " + column.typeExpression();
    Object declaredDefault = column.hasDefaultValue() ? column.defaultValue() : null;
    if (column.nativeType() == REAL) {
      registration.register(
          SchemaBuilder.float64().optional(), value -> RealNumber.of(value, where));
      return;
    }
    registration.register(
        SchemaBuilder.string().optional(), value -> PostgresText.of(value, declaredDefault, where));
  }
}
