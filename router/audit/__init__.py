"""An independent judge of a run: it reads raw records and shares no code with the router that it judges."""

from router.audit.audit import Audit
from router.audit.report import Report

__all__ = ["Audit", "Report"]
