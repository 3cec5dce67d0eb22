-- view: reports.revenue_by_hour
-- question: How much money came in, hour by hour?
-- reads: silver.payments
-- columns:
--   hour      timestamp with time zone, start of the hour in UTC; hours without a payment are absent
--   payments  bigint, payments that came in
--   invoices  bigint, invoices that they paid
--   revenue   decimal, their sum, tax included
SELECT
  date_trunc('hour', paid_at) AS hour,
  count(*) AS payments,
  count(DISTINCT invoice_number) AS invoices,
  sum(amount) AS revenue
FROM silver.payments
GROUP BY date_trunc('hour', paid_at)
