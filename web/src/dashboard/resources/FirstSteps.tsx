// What a new platform shows: the three commands that lead from nothing to a trained model.
import { Link } from "@tanstack/react-router";
import { useBaseModels } from "~/api/models";
import { Code } from "~/design/Copy";
import mark from "~/design/mark.svg";

const STEPS: { title: string; text: string; command: (base: string) => string }[] = [
  {
    title: "Write an eval, run it here",
    text: "An eval is a pytest test. This one scores sums; twenty rows with the bundled model take seconds.",
    command: () => "cp -r examples/gsm8k /tmp/gsm8k && cd /tmp/gsm8k\npython evaluation.py",
  },
  {
    title: "Look at every rollout",
    text: "The local UI shows what the model said, how it was scored, and why.",
    command: () => "ep logs",
  },
  {
    title: "Train against it",
    text: "One command uploads evaluator and rows and starts the job. It then lives on this page.",
    command: (base) => `ep create rft --base-model ${base} --yes --wait`,
  },
];

export function FirstSteps() {
  const bases = useBaseModels();
  const base = bases.data?.[0]?.name ?? "BASE_MODEL";
  return (
    <div className="mx-auto max-w-3xl py-4">
      <div className="mb-6 flex items-center gap-4">
        <img src={mark} alt="" className="size-12" />
        <div>
          <h2 className="text-lg font-semibold">This platform is up, and empty</h2>
          <p className="text-ink-soft">Three commands in another terminal fill it.</p>
        </div>
      </div>
      <ol className="space-y-3">
        {STEPS.map((step, place) => (
          <li key={step.title} className="rounded-lg border bg-surface p-4">
            <h3 className="flex items-center gap-2.5 font-semibold">
              <span className="tabular grid size-6 place-items-center rounded-full bg-accent-soft text-xs text-accent-text">
                {place + 1}
              </span>
              {step.title}
            </h3>
            <p className="mt-1 mb-2.5 text-ink-soft">{step.text}</p>
            <Code text={step.command(base)} />
          </li>
        ))}
      </ol>
      <p className="mt-5 text-ink-soft">
        Have rows instead?{" "}
        <Link to="/dashboard/datasets" className="text-accent-text underline underline-offset-2">
          Upload a dataset
        </Link>{" "}
        and fine-tune on it, or{" "}
        <Link to="/dashboard/sessions" className="text-accent-text underline underline-offset-2">
          let the Agent do it
        </Link>
        .
      </p>
    </div>
  );
}
