import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, test, vi } from "vitest";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import { Promote } from "./Promote";

const JOB = {
  name: "accounts/local/reinforcementFineTuningJobs/sums",
  state: "JOB_STATE_COMPLETED",
  trainingConfig: { outputModel: "accounts/local/models/sums" },
  run: { optimizer_steps: 3 },
} as RftJob;

function show(job: RftJob, role = "admin") {
  const client = new QueryClient();
  client.setQueryData(["session"], { account: "local", role, user: null, expires: "", version: "" });
  render(
    <QueryClientProvider client={client}>
      <Promote job={job} />
    </QueryClientProvider>,
  );
}

/** The server: what it was asked, and its answer. */
function server() {
  const asked: [string, unknown][] = [];
  vi.stubGlobal("fetch", async (path: string, request: RequestInit) => {
    const body = JSON.parse(String(request.body));
    asked.push([path, body]);
    return new Response(JSON.stringify({ model: `accounts/local/models/${body.model ?? "sums"}`, ...body }));
  });
  return asked;
}

// Whoever asks for the session begins to watch the server; nothing comes from this one.
class SilentEvents {
  static CLOSED = 2;
  readyState = 0;
  addEventListener() {}
  close() {}
}
vi.stubGlobal("EventSource", SilentEvents);

afterEach(cleanup);

test("the chosen version takes the model's place once it is confirmed", async () => {
  const asked = server();
  show(JOB);
  await userEvent.click(screen.getByRole("button", { name: "Promote" }));
  await userEvent.selectOptions(screen.getByLabelText("Version"), "2");
  expect(screen.getByText("sums serves it at once, in place of the version that it has now.")).toBeTruthy();
  expect(asked).toEqual([]);
  await userEvent.click(screen.getByRole("button", { name: "Promote" }));
  const path = "/v1/accounts/local/reinforcementFineTuningJobs/sums:promote";
  await waitFor(() => expect(asked).toEqual([[path, { version: 2 }]]));
  await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
});

test("a name of its own leaves the job's model as it is", async () => {
  const asked = server();
  show(JOB);
  await userEvent.click(screen.getByRole("button", { name: "Promote" }));
  await userEvent.type(screen.getByLabelText("As"), "third");
  expect(screen.getByText("third serves it at once, beside the job's own model.")).toBeTruthy();
  await userEvent.click(screen.getByRole("button", { name: "Promote" }));
  await waitFor(() => expect(asked.map(([, body]) => body)).toEqual([{ version: 3, model: "third" }]));
});

test("a viewer cannot, and a job that runs or took no step has nothing to promote", () => {
  show(JOB, "viewer");
  const button = screen.getByRole("button", { name: "Promote" }) as HTMLButtonElement;
  expect([button.disabled, button.title]).toEqual([true, expect.stringContaining("viewer may only look")]);
  cleanup();
  show({ ...JOB, state: "JOB_STATE_RUNNING" });
  show({ ...JOB, run: { ...JOB.run, optimizer_steps: 0 } });
  expect(screen.queryByRole("button", { name: "Promote" })).toBeNull();
});
