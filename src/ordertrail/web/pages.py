"""All pages, and the navigation."""

from __future__ import annotations

from ordertrail.web.deliveries import deliveries, delivery
from ordertrail.web.incidents import incidents
from ordertrail.web.page import Page
from ordertrail.web.query import query
from ordertrail.web.rejects import rejects
from ordertrail.web.shipment import shipment
from ordertrail.web.tables import tables
from ordertrail.web.today import today
from ordertrail.web.vendors import vendor, vendors

PAGES = (
    Page("today", "/", "Today", today, begins=True),
    Page("deliveries", "/deliveries", "Deliveries", deliveries, listed=True),
    Page("delivery", "/delivery", "Delivery", delivery, under="deliveries"),
    Page("shipment", "/shipment", "Shipment", shipment, listed=True),
    Page("rejects", "/rejects", "Rejects", rejects, listed=True),
    Page("vendors", "/vendors", "Vendors", vendors, listed=True),
    Page("vendor", "/vendor", "Vendor", vendor, under="vendors"),
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
