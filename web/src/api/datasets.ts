// Datasets: the list, one, its rows and figures, how a model would be trained on them, and new ones.
import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useAccountPath } from "~/dashboard/session";
import { collect } from "./collection";
import { ApiError, get, post, problem, remove, WRITE_HEADERS } from "./http";
import { shortId } from "./names";
import type { components } from "./schema";

export type Dataset = components["schemas"]["Dataset"];

export interface DatasetRow {
  index: number;
  row: Record<string, unknown>;
}
export interface DatasetStatistics {
  rows: number;
  rowKind: string;
  bytes: number;
  messages: { min: number; mean: number; max: number };
  characters: { min: number; p50: number; p95: number; max: number };
  histogram: { from: number; to: number; rows: number }[];
  roles: Record<string, number>;
  withTools: number;
  withSystem: number;
  duplicates: number;
  fields: Record<string, number>;
}
export interface Segment {
  text: string;
  lossWeight: number;
}
export interface Rendering {
  thinkingTraceHistoryMode: string;
  error?: string;
  renderedDatums: { datumIndex: number; segments: Segment[] }[];
}
interface RenderPreview {
  examples: { sourceJsonlRowIndex: string; sourceJsonl: string; renderings: Rendering[]; error?: string }[];
  totalCount: string;
  nextPageToken: string;
  thinkingTraceHistoryModeOptions: { mode: string; default: boolean; unrollsMultiTurn: boolean }[];
}

const NOUN = "datasets";

export function useDatasets() {
  const account = useAccountPath();
  return useQuery({
    queryKey: [NOUN],
    queryFn: () => collect<Dataset>(`${account}/datasets`, "datasets"),
  });
}

export function useDataset(id: string) {
  const path = `${useAccountPath()}/datasets/${id}`;
  return useQuery({ queryKey: [NOUN, id], queryFn: () => get<Dataset>(path), enabled: id !== "" });
}

export function useDatasetRows(
  id: string,
  options: { pageSize: number; pageToken: string; contains: string },
) {
  const path = `${useAccountPath()}/datasets/${id}/rows`;
  return useQuery({
    queryKey: [NOUN, id, "rows", options],
    queryFn: ({ signal }) =>
      get<{ rows: DatasetRow[]; nextPageToken: string; totalSize: number | string }>(path, options, signal),
    enabled: id !== "",
    placeholderData: keepPreviousData,
  });
}

export function useDatasetStatistics(id: string, enabled: boolean) {
  const path = `${useAccountPath()}/datasets/${id}/statistics`;
  return useQuery({
    queryKey: [NOUN, id, "statistics"],
    queryFn: () => get<DatasetStatistics>(path),
    enabled: enabled && id !== "",
    staleTime: Number.POSITIVE_INFINITY, // a READY dataset never changes
  });
}

export function useRenderPreview(id: string, baseModel: string, pageToken: string) {
  const path = `${useAccountPath()}/datasets/${id}:renderPreview`;
  return useQuery({
    queryKey: [NOUN, id, "renderPreview", baseModel, pageToken],
    queryFn: () => post<RenderPreview>(path, { baseModel, pageSize: 5, pageToken }),
    enabled: baseModel !== "" && id !== "",
    staleTime: Number.POSITIVE_INFINITY,
    placeholderData: keepPreviousData,
  });
}

/** A URL that downloads the rows, good for an hour. */
export function useDatasetDownload() {
  const account = useAccountPath();
  return async (id: string): Promise<string> => {
    const path = `${account}/datasets/${id}:getDownloadEndpoint`;
    const answer = await get<{ filenameToSignedUrls: Record<string, string> }>(path);
    const url = Object.values(answer.filenameToSignedUrls)[0];
    if (!url) throw new ApiError(`${id} has no rows to download.`, 404, "NOT_FOUND");
    return url;
  };
}

export function useDeleteDataset() {
  const account = useAccountPath();
  const client = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => remove(`${account}/datasets/${id}`),
    onSuccess: () => {
      // Only the list: the page of what is gone would ask for it once more.
      client.invalidateQueries({ queryKey: [NOUN], exact: true });
    },
  });
}

export interface Upload {
  id: string;
  file: File;
  displayName?: string;
  /** Rows are EvaluationRows already: no dataset_adapter is applied. */
  adapted?: boolean;
  /** Share of the bytes that were sent, 0 to 1; 1: the server checks the rows. */
  onProgress?: (share: number) => void;
}

/** Announce a dataset and send its rows; a refused file leaves nothing behind. */
export function useUploadDataset() {
  const account = useAccountPath();
  const client = useQueryClient();
  return useMutation({
    mutationFn: async ({ id, file, displayName, adapted, onProgress }: Upload) => {
      // A browser does not read a file that was written to after it was chosen.
      await file
        .slice(0, 1)
        .arrayBuffer()
        .catch(() => {
          throw new ApiError(
            `${file.name} has changed since it was chosen. Choose it again.`,
            0,
            "FILE_CHANGED",
          );
        });
      const dataset = await post<Dataset>(`${account}/datasets`, {
        datasetId: id,
        dataset: {
          userUploaded: {},
          ...(displayName ? { displayName } : {}),
          ...(adapted ? { evalProtocol: {} } : {}),
        },
      });
      try {
        await send(`/v1/${dataset.name}:upload`, file, onProgress);
      } catch (error) {
        await remove(`/v1/${dataset.name}`).catch(() => undefined); // what was said of the file matters more
        throw error;
      }
      return get<Dataset>(`${account}/datasets/${shortId(dataset.name)}`);
    },
    onSettled: () => {
      client.invalidateQueries({ queryKey: [NOUN] });
    },
  });
}

/** fetch() cannot tell how much was sent; XMLHttpRequest can. */
function send(path: string, file: File, onProgress?: (share: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(WRITE_HEADERS)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) =>
      onProgress?.(event.lengthComputable && event.total > 0 ? event.loaded / event.total : 0);
    request.upload.onload = () => onProgress?.(1);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) return resolve();
      problem(new Response(request.responseText, { status: request.status })).then(reject);
    };
    request.onerror = () =>
      reject(new ApiError("The connection broke during the upload. Try again.", 0, "UNREACHABLE"));
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
}
