// The final report with its pictures, which the platform serves beside it.
import { Download } from "lucide-react";
import type { AgentSession } from "~/api/sessions";
import { useReport } from "~/api/sessions";
import { Markdown } from "~/conversation/Markdown";
import { Loaded, Panel } from "~/design/Panel";
import { reportParts } from "./reportParts";

export function Report({ session }: { session: AgentSession }) {
  const report = useReport(session);
  if (!session.reportUrl) return null;
  return (
    <Panel
      title="Report"
      actions={
        report.data && (
          <a
            href={report.data.path}
            download="final_report.md"
            className="inline-flex items-center gap-1.5 text-xs font-medium text-accent-text underline underline-offset-2"
          >
            <Download size={13} aria-hidden="true" /> final_report.md
          </a>
        )
      }
    >
      <Loaded query={report} what="The report">
        {({ path, text }) => (
          <article className="max-w-4xl space-y-3 [&_table]:[overflow-wrap:normal]">
            {reportParts(text).map((part, place) =>
              part.kind === "figure" ? (
                <figure key={part.file} className="rounded-md border bg-white p-3">
                  <img src={`${path}/${part.file}`} alt={part.label} className="mx-auto max-w-full" />
                </figure>
              ) : (
                // biome-ignore lint/suspicious/noArrayIndexKey: the parts of a report are known by their place
                <Markdown key={place} text={part.text} />
              ),
            )}
          </article>
        )}
      </Loaded>
    </Panel>
  );
}
