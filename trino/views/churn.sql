-- view: reports.churn
-- question: Which customers are likely to order nothing for 60 days, by the newest run of the job `churn`?
-- reads: ml.churn
-- columns:
--   customer_id  bigint
--   chance       double, 0 to 1
--   reasons      varchar, what raises the chance most, the strongest first; NULL where nothing does
--   method       varchar: logistic regression or gradient boosting
--   as_of        timestamp(6) with time zone: orders up to here are known
--   scored_at    timestamp(6) with time zone
SELECT customer_id, chance, reasons, method, as_of, scored_at
FROM ml.churn
