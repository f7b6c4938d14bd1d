"""The dashboard for Grafana, the alert rules and the scrape config for Prometheus that every deployment brings."""

from __future__ import annotations

from ordertrail.deploy.files import filled

METRICS_PORT = 9464
"""Where `watch` answers Prometheus, unless somebody says otherwise."""

_FILES = {
    "monitoring/grafana-dashboard.json": "monitoring/dashboard.json",
    "monitoring/alerts.yml": "monitoring/alerts.yml",
    "monitoring/prometheus.yml": "monitoring/prometheus.yml",
}


def monitoring_files(port: int) -> dict[str, str]:
    """Text by path below the folder of a deployment.

    Args:
        port: Where the service answers on the machine of Prometheus.
    """
    return {path: filled(name, {"port": str(port)}) for path, name in _FILES.items()}
