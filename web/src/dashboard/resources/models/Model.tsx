// One model: where it came from, its files, how to call it, and the ways on: deploy, try, train further.
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { Download, MessagesSquare, Network, Trash2 } from "lucide-react";
import { type ReactNode, useState } from "react";
import { type Model as ModelShown, useDeleteModel, useModel, useModelFiles } from "~/api/models";
import { shortId } from "~/api/names";
import { ChangeButton } from "~/dashboard/ChangeButton";
import { useSession } from "~/dashboard/session";
import { Badge, ResourceState } from "~/design/Badge";
import { Button } from "~/design/Button";
import { CopyButton } from "~/design/Copy";
import { count } from "~/design/figures";
import { PageHeader } from "~/design/PageHeader";
import { Loaded, Panel } from "~/design/Panel";
import { Time } from "~/design/Time";
import { DeleteConfirm } from "../DeleteConfirm";
import { DeployDialog } from "../deployments/DeployDialog";
import { CallSnippets } from "./CallSnippets";
import { JobLink, kindLabel, parameters } from "./Models";
import { modelLabel, modelPath } from "./names";

export function Model() {
  const { modelId = "" } = useParams({ strict: false }) as { modelId?: string };
  const { account } = useSearch({ strict: false }) as { account?: string };
  const session = useSession();
  const model = useModel(`accounts/${account ?? session.data?.account ?? "local"}/models/${modelId}`);
  return (
    <Loaded query={model} what="The model">
      {(data) => (
        <>
          <Head model={data} />
          <div className="grid gap-4 xl:grid-cols-[minmax(0,1fr)_minmax(0,1.2fr)]">
            <div className="space-y-4">
              <Facts model={data} />
              {data.kind === "HF_PEFT_ADDON" || data.fineTuningJob ? <Files model={data} /> : null}
            </div>
            <Panel title="Call it">
              <CallSnippets model={data.name} />
            </Panel>
          </div>
        </>
      )}
    </Loaded>
  );
}

function Head({ model }: { model: ModelShown }) {
  const navigate = useNavigate();
  const remove = useDeleteModel();
  const [asked, setAsked] = useState(false);
  const [deploying, setDeploying] = useState(false);
  const own = model.kind === "HF_PEFT_ADDON" || !!model.fineTuningJob;
  const beside = model.baseModel ?? undefined;
  return (
    <>
      <PageHeader
        crumbs={[
          <Link key="all" to="/dashboard/models">
            Models
          </Link>,
        ]}
        title={modelLabel(model)}
        marks={
          <>
            <CopyButton text={model.name} label="Copy resource name" />
            <ResourceState state={model.state} />
            <Badge>{kindLabel(model)}</Badge>
          </>
        }
        actions={
          <>
            <Button
              kind="primary"
              icon={<MessagesSquare size={14} />}
              onClick={() =>
                navigate({ to: "/dashboard/playground", search: { model: model.name, beside } as never })
              }
            >
              {beside ? "Try beside its base" : "Try it"}
            </Button>
            <ChangeButton icon={<Network size={14} />} onClick={() => setDeploying(true)}>
              Deploy
            </ChangeButton>
            {own && (
              <ChangeButton kind="danger" icon={<Trash2 size={14} />} onClick={() => setAsked(true)}>
                Delete
              </ChangeButton>
            )}
          </>
        }
      >
        <code className="font-mono text-xs break-all">{model.name}</code>
      </PageHeader>
      <DeployDialog open={deploying} model={model.name} onClose={() => setDeploying(false)} />
      <DeleteConfirm
        open={asked}
        onClose={() => setAsked(false)}
        name={model.name}
        remove={remove}
        list="/dashboard/models"
      >
        Its files go for good, and it is no longer served. While a job or deployment needs it this is refused.
      </DeleteConfirm>
    </>
  );
}

function Facts({ model }: { model: ModelShown }) {
  const facts: [string, ReactNode][] = [
    ["Kind", kindLabel(model)],
    [
      "Base model",
      model.baseModel && (
        <Link to={modelPath(model.baseModel)} className="break-all text-accent-text hover:underline">
          {shortId(model.baseModel)}
        </Link>
      ),
    ],
    ["Job", model.fineTuningJob && <JobLink job={model.fineTuningJob} />],
    ["LoRA rank", model.peftDetails?.r],
    ["Trained layers", model.peftDetails?.targetModules?.join(", ")],
    ["Parameters", model.baseModelDetails?.parameterCount && parameters(model)],
    ["Architecture", model.baseModelDetails?.modelType],
    ["Context", model.contextLength && `${count(model.contextLength)} tokens`],
    ["Created", model.createTime && <Time at={model.createTime} />],
    [
      "SHA-256",
      model.sha256 && (
        <span className="flex items-center gap-1">
          <code className="min-w-0 truncate font-mono text-xs" title={model.sha256}>
            {model.sha256}
          </code>
          <CopyButton text={model.sha256} label="Copy hash" />
        </span>
      ),
    ],
  ];
  return (
    <Panel title="Facts">
      <dl className="grid grid-cols-[8rem_minmax(0,1fr)] gap-x-4 gap-y-2">
        {facts
          .filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== 0)
          .map(([name, value]) => (
            <div key={name} className="contents">
              <dt className="text-ink-soft">{name}</dt>
              <dd className="min-w-0 break-words">{value}</dd>
            </div>
          ))}
      </dl>
    </Panel>
  );
}

function Files({ model }: { model: ModelShown }) {
  const files = useModelFiles(model.name, true);
  return (
    <Panel title="Files">
      <Loaded query={files} what="The files" lines={2}>
        {(urls) => (
          <ul className="space-y-1.5">
            {Object.entries(urls).map(([name, url]) => (
              <li key={name}>
                <a
                  href={url}
                  download={name}
                  className="inline-flex items-center gap-2 font-mono text-xs text-accent-text hover:underline"
                >
                  <Download size={14} aria-hidden="true" />
                  {name}
                </a>
              </li>
            ))}
            <li className="pt-1 text-xs text-ink-soft">
              In one folder they load with plain {model.kind === "HF_PEFT_ADDON" ? "peft" : "transformers"}.
              All at once: <code className="font-mono">tunesmith model download {shortId(model.name)}</code>
            </li>
          </ul>
        )}
      </Loaded>
    </Panel>
  );
}
