// How to call a model or deployment: curl, Python and JavaScript, ready to paste.
import { useState } from "react";
import { Code } from "~/design/Copy";
import { Tabs } from "~/design/Tabs";
import { SNIPPETS, snippet } from "./snippets";

export function CallSnippets({ model }: { model: string }) {
  const [kind, setKind] = useState(SNIPPETS[0].id);
  return (
    <div>
      <Tabs
        label="How to call it"
        tabs={SNIPPETS}
        active={kind}
        onChange={(next) => setKind(next as typeof kind)}
      />
      <Code text={snippet(kind, model, window.location.origin)} className="mt-3" />
      <p className="mt-2 text-xs text-ink-soft">
        The key: <code className="font-mono">eval "$(tunesmith env)"</code> sets{" "}
        <code className="font-mono">FIREWORKS_API_KEY</code> on the platform's machine.
      </p>
    </div>
  );
}
