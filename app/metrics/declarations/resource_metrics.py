"""Services, the machine, incidents, and the exporter itself."""

from __future__ import annotations

from app.metrics.declarations.declaration import (
    Alert,
    Dashboard,
    Query,
    counter,
    gauge,
    graph,
    stat,
)

EXPORTER = (
    gauge("collector_up", "1: the collector's last run succeeded", "collector"),
    counter("collector_cpu_seconds", "CPU that the collector has used", "collector"),
    gauge("collector_period_seconds", "Time between two runs, stretched by cost", "collector"),
    counter("exporter_series_dropped", "Series beyond the limit a family, not exported"),
)
INCIDENTS = (
    gauge("incidents_open",
          "Incidents that are open: parts that are out of order now, and what others recorded",
          "kind"),
    counter("incidents", "Parts that went out of order, or were when the exporter began", "kind"),
    gauge("incident_seconds", "How long the oldest open incident lasts; 0: none is open", "kind"),
)  # fmt: skip
METRICS = (
    gauge("service_up", "1: the service is as it should be", "service"),
    counter("service_restarts", "Restarts of the service by the supervisor", "service"),
    counter("service_cpu_seconds", "CPU of the service's processes that live", "service"),
    gauge("service_resident_bytes", "Resident memory of the service's processes", "service"),
    gauge("service_open_files", "Open file descriptors of the service's processes", "service"),
    gauge("service_open_files_share", "Of the limit, the service's fullest process", "service"),
    gauge("service_disk_bytes", "Data, rendered files and logs of the service", "service"),
    gauge("machine_cpus", "Processors of the machine"),
    counter("machine_cpu_seconds", "CPU time of the machine that was not idle"),
    gauge("machine_memory_bytes", "Memory of the machine"),
    gauge("machine_memory_available_bytes", "Memory that can still be taken"),
    gauge("machine_disk_bytes", "Size of the disk that the stack's home is on"),
    gauge("machine_disk_free_bytes", "Free space on it"),
    gauge("disk_bytes", "Size of each disk, by the first folder of the home on it", "folder"),
    gauge("disk_free_bytes", "Free space on it", "folder"),
    gauge("disk_state", "0: it has room, 1: low, 2: full; by bytes or files", "folder"),
)

SERVICE_RESTARTS = Query("increase(headwater_service_restarts_total[15m])", legend="{{service}}")
MACHINE_CPU = Query(
    "rate(headwater_machine_cpu_seconds_total[5m]) / headwater_machine_cpus", "percentunit"
)
MACHINE_MEMORY_FREE = Query(
    "headwater_machine_memory_available_bytes / headwater_machine_memory_bytes", "percentunit"
)
DISK_FREE = Query("headwater_machine_disk_free_bytes / headwater_machine_disk_bytes", "percentunit")
DISK_HOURS_LEFT = Query(
    # At the rate of the last half hour; a disk that does not fill counts as a hundred years.
    "headwater_machine_disk_free_bytes"
    " / clamp_min(-deriv(headwater_machine_disk_free_bytes[30m]), 1e-9) / 3600 < 876000"
    " or headwater_machine_disk_free_bytes * 0 + 876000",
    "h",
)
EXPORTER_UP = 'min(up{job="metrics"})'
EXPORTER_CPU = Query(
    "sum(rate(headwater_collector_cpu_seconds_total[5m]))", "percentunit", "collectors"
)

DASHBOARD = Dashboard("resources", "Resources: processes and the machine", (
    stat("Processors busy", MACHINE_CPU),
    stat("Memory free", MACHINE_MEMORY_FREE),
    stat("Disk free", DISK_FREE),
    stat("Hours until the disk is full", DISK_HOURS_LEFT),
    stat("Exporter answers", EXPORTER_UP),
    stat("Collectors' CPU", EXPORTER_CPU),
    graph("CPU, processors by service",
          Query("rate(headwater_service_cpu_seconds_total[2m])", legend="{{service}}")),
    graph("Memory by service", "headwater_service_resident_bytes"),
    graph("Disk by service", "headwater_service_disk_bytes"),
    graph("Free on each disk", "headwater_disk_free_bytes"),
    graph("Disks that are low (1) or full (2)", "headwater_disk_state"),
    graph("Open files by service", "headwater_service_open_files"),
    graph("Of the limit of open files", "headwater_service_open_files_share"),
    graph("Services run", "headwater_service_up"),
    graph("Restarts, last 15 min", SERVICE_RESTARTS),
    graph("Incidents open", "headwater_incidents_open"),
    graph("Incidents begun, last hour",
          Query("increase(headwater_incidents_total[1h])", legend="{{kind}}")),
    graph("Oldest open incident", "headwater_incident_seconds"),
    graph("Collectors work", "headwater_collector_up"),
    graph("Targets that do not answer", Query("up == bool 0", legend="{{job}}")),
))  # fmt: skip

ALERTS = (
    Alert("ServiceDown", "headwater_service_up", "<", 1, "2m", "critical",
          "Service {{ $labels.service }} does not run", "1"),
    Alert("ServiceRestarting", SERVICE_RESTARTS, ">", 3, "0s", "warning",
          "Service {{ $labels.service }} is restarted again and again", "0"),
    Alert("CpuBusy", MACHINE_CPU, ">", 0.95, "15m", "warning",
          "The machine's processors are busy all the time", "below 0.6"),
    Alert("MemoryLow", MACHINE_MEMORY_FREE, "<", 0.05, "5m", "critical",
          "Less than a twentieth of the memory can still be taken", "above 0.3"),
    Alert("FilesExhausted", "headwater_service_open_files_share", ">", 0.8, "5m", "warning",
          "Service {{ $labels.service }} is near its limit of open files", "below 0.1"),
    Alert("DiskLow", "headwater_disk_state", ">", 0.5, "1m", "warning",
          "The disk under {{ $labels.folder }} has little room left", "0"),
    Alert("DiskFull", "headwater_disk_state", ">", 1.5, "0s", "critical",
          "The disk under {{ $labels.folder }} is full: what writes there stands still", "0"),
    Alert("DiskFillsSoon", DISK_HOURS_LEFT, "<", 6, "15m", "warning",
          "At this rate the disk is full within six hours", "years"),
    Alert("ExporterDown", EXPORTER_UP, "<", 1, "1m", "critical",
          "The exporter does not answer: most other alerts are blind", "1"),
    Alert("CollectorFailing", "headwater_collector_up", "<", 1, "5m", "warning",
          "The exporter's collector {{ $labels.collector }} fails", "1"),
)  # fmt: skip
