// Deploying a model: a name under which it is kept ready.
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useCreateDeployment } from "~/api/deployments";
import { useBaseModels, useModels } from "~/api/models";
import { shortId } from "~/api/names";
import { Button } from "~/design/Button";
import { Dialog } from "~/design/Dialog";
import { Field, Input, Select } from "~/design/Field";
import { modelLabel } from "../models/names";

export function DeployDialog({
  open,
  model,
  onClose,
}: {
  open: boolean;
  model?: string;
  onClose: () => void;
}) {
  const create = useCreateDeployment();
  const navigate = useNavigate();
  const own = useModels();
  const bases = useBaseModels();
  const choices = [...(own.data ?? []), ...(bases.data ?? [])];
  const [chosen, setChosen] = useState("");
  const [named, setNamed] = useState<string | null>(null);
  const baseModel = model ?? (chosen || choices[0]?.name || "");
  const id = named ?? (baseModel ? `${shortId(baseModel)}-ready`.slice(0, 63) : "");
  const wrong = id !== "" && !/^[a-z0-9][a-z0-9._-]{0,62}$/.test(id);
  const deploy = () =>
    create.mutate(
      { id, baseModel },
      {
        onSuccess: () => {
          onClose();
          navigate({ to: `/dashboard/deployments/${id}` });
        },
      },
    );
  return (
    <Dialog
      open={open}
      onClose={onClose}
      title={model ? `Deploy ${shortId(model)}` : "Deploy a model"}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button
            kind="primary"
            busy={create.isPending}
            disabled={!id || wrong || !baseModel}
            onClick={deploy}
          >
            Deploy
          </Button>
        </>
      }
    >
      <div className="space-y-4">
        {!model && (
          <Field label="Model">
            {(ids) => (
              <Select {...ids} value={baseModel} onChange={(event) => setChosen(event.target.value)}>
                {choices.map((one) => (
                  <option key={one.name} value={one.name}>
                    {modelLabel(one)}
                  </option>
                ))}
              </Select>
            )}
          </Field>
        )}
        <Field
          label="Name of the deployment"
          hint="Calls give it as accounts/…/deployments/NAME. One replica on this machine."
          error={wrong ? "Use a to z, 0 to 9, dots, hyphens and underscores; at most 63." : undefined}
        >
          {(ids) => <Input {...ids} value={id} onChange={(event) => setNamed(event.target.value)} />}
        </Field>
        {create.error && (
          <p role="alert" className="break-words text-bad">
            {create.error.message}
          </p>
        )}
      </div>
    </Dialog>
  );
}
