// Another version of an ended job as its model, or as a model beside it.
import { Trophy } from "lucide-react";
import { useState } from "react";
import { usePromote } from "~/api/control";
import { unfinished } from "~/api/fineTuningJobs";
import { shortId } from "~/api/names";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import { Confirm } from "~/design/Dialog";
import { Input, Select } from "~/design/Field";
import { toast, toastError } from "~/design/Toast";
import { ChangeButton } from "../ChangeButton";

export function Promote({ job }: { job: RftJob }) {
  const promote = usePromote(shortId(job.name));
  const [open, setOpen] = useState(false);
  const last = job.run?.optimizer_steps ?? 0;
  const [chosen, setChosen] = useState<number | null>(null);
  const [name, setName] = useState("");
  if (unfinished(job.state) || last === 0) return null;
  const version = chosen ?? last;
  const own = shortId(job.trainingConfig.outputModel ?? "");
  const model = name.trim();
  const go = () =>
    promote.mutate(model ? { version, model } : { version }, {
      onError: toastError,
      onSuccess: (made) => toast(`${shortId(made.model)} serves version ${made.version}.`),
      onSettled: () => setOpen(false),
    });
  return (
    <>
      <ChangeButton icon={<Trophy size={14} />} onClick={() => setOpen(true)}>
        Promote
      </ChangeButton>
      <Confirm
        open={open}
        onClose={() => setOpen(false)}
        title={`Promote version ${version}?`}
        action="Promote"
        busy={promote.isPending}
        onConfirm={go}
      >
        <div className="flex flex-col gap-3">
          <label htmlFor="promote-version" className="flex items-center gap-2">
            Version
            <Select
              id="promote-version"
              value={String(version)}
              onChange={(event) => setChosen(Number(event.target.value))}
            >
              {Array.from({ length: last + 1 }, (_, index) => last - index).map((one) => (
                <option key={one} value={one}>
                  {one === 0 ? "0, as it began" : `${one}, after ${one} ${one === 1 ? "step" : "steps"}`}
                </option>
              ))}
            </Select>
          </label>
          <label htmlFor="promote-as" className="flex items-center gap-2">
            As
            <Input
              id="promote-as"
              value={name}
              placeholder={own}
              onChange={(event) => setName(event.target.value)}
            />
          </label>
          <p>
            {model
              ? `${model} serves it at once, beside the job's own model.`
              : `${own} serves it at once, in place of the version that it has now.`}
          </p>
        </div>
      </Confirm>
    </>
  );
}
