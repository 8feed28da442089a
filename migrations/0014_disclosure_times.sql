-- How long a run's first disclosure link took: when it was first asked for, and when the first one could be used. Each is set once.
alter table executions add column link_asked_at timestamptz;
alter table executions add column linked_at timestamptz;
-- Histograms are counters too (`…_ms_bucket`, `…_ms_sum`, `…_ms_count`).
alter table metric_counters drop constraint metric_counters_metric_check;
alter table metric_counters add constraint metric_counters_metric_check
  check (metric ~ '^mc_[a-z0-9_]+_(total|ms_bucket|ms_sum|ms_count)$');
