import { open, readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import { abortReason, fileError, systemCode } from "../errors.ts";
import { PARTIAL_SUFFIX } from "../files/aside.ts";
import { PrefixTable } from "../index/prefix-table.ts";
import { DigestIndex } from "./digest-index.ts";
import { type Layout, syncFolder } from "./layout.ts";
import type { LiveContents } from "./live-set.ts";
import { mergeRuns } from "./merge.ts";
import { openGroups } from "./open-groups.ts";
import { PACK_BYTES, packPath } from "./pack.ts";
import { freeNumbers } from "./pack-numbers.ts";
import { PackWriter } from "./pack-writer.ts";
import { type Regrouped, Regrouper } from "./regroup.ts";
import type { PackPlan, RemovalPlan } from "./removal-plan.ts";
import { PLACE_BYTES } from "./run-file.ts";
import { newSurvey, surveyPack } from "./survey.ts";

