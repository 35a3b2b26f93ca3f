// Paths of the overview and of what jobs are made of and lead to: evaluators, datasets, models, deployments, secrets, keys.
import { type AnyRoute, createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { root } from "../root";

type Module = Record<string, unknown>;

function page(path: string, title: string, load: () => Promise<Module>, name: string): AnyRoute {
  return createRoute({
    getParentRoute: () => root,
    path,
    // biome-ignore lint/suspicious/noExplicitAny: every page is a component without props
    component: lazyRouteComponent(load as () => Promise<any>, name),
    staticData: { title },
  });
}

export const resourceRoutes: AnyRoute[] = [
  page("/dashboard", "Overview", () => import("./Overview"), "Overview"),
  createRoute({
    getParentRoute: () => root,
    path: "/dashboard/sign-in",
    staticData: { title: "Sign in" },
    // The frame shows the form itself, without navigation.
    component: () => null,
  }),
  page("/dashboard/evaluators", "Evaluators", () => import("./evaluators/Evaluators"), "Evaluators"),
  page(
    "/dashboard/evaluators/$evaluatorId",
    "Evaluator",
    () => import("./evaluators/Evaluator"),
    "Evaluator",
  ),
  page(
    "/dashboard/evaluators/$evaluatorId/versions/$version",
    "Evaluator version",
    () => import("./evaluators/Evaluator"),
    "Evaluator",
  ),
  page("/dashboard/datasets", "Datasets", () => import("./datasets/Datasets"), "Datasets"),
  page("/dashboard/datasets/$datasetId", "Dataset", () => import("./datasets/Dataset"), "Dataset"),
  page("/dashboard/models", "Models", () => import("./models/Models"), "Models"),
  page("/dashboard/models/$modelId", "Model", () => import("./models/Model"), "Model"),
  page("/dashboard/deployments", "Deployments", () => import("./deployments/Deployments"), "Deployments"),
  page(
    "/dashboard/deployments/$deploymentId",
    "Deployment",
    () => import("./deployments/Deployment"),
    "Deployment",
  ),
  page("/dashboard/playground", "Playground", () => import("./playground/Playground"), "Playground"),
  page("/dashboard/secrets", "Secrets", () => import("./account/Secrets"), "Secrets"),
  page("/dashboard/api-keys", "API keys", () => import("./account/ApiKeys"), "ApiKeys"),
];
