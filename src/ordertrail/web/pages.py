"""All pages, and the navigation."""

from __future__ import annotations

from ordertrail.look.follow import Moment
from ordertrail.web.incidents import incidents
from ordertrail.web.page import Answer, Ask, Page
from ordertrail.web.query import query
from ordertrail.web.tables import tables
from ordertrail.web.today import today


def _soon(moment: Moment, ask: Ask) -> Answer:
    """Stands for a page of the navigation that is not there yet."""
    return Answer({"pipeline": moment.config.name, "page": ask.path})


PAGES = (
    Page("today", "/", "Today", today, begins=True),
    Page("soon", "/deliveries", "Deliveries", _soon, under="deliveries"),
    Page("soon", "/shipment", "Shipment", _soon, under="shipment"),
    Page("soon", "/rejects", "Rejects", _soon, under="rejects"),
    Page("soon", "/vendors", "Vendors", _soon, under="vendors"),
    Page("tables", "/tables", "Tables", tables, listed=True),
    Page("query", "/query", "Query", query, listed=True, slow=True),
    Page("incidents", "/incidents", "Incidents", incidents, listed=True),
)
"""Every page, once."""

NAVIGATION = (
    ("today", "/", "Today"),
    ("deliveries", "/deliveries", "Deliveries"),
    ("shipment", "/shipment", "Shipment"),
    ("rejects", "/rejects", "Rejects"),
    ("vendors", "/vendors", "Vendors"),
    ("tables", "/tables", "Tables"),
    ("query", "/query", "Query"),
    ("incidents", "/incidents", "Incidents"),
)
"""Name, path and word of each entry, in order."""
