"""What check makes of tables that nobody described to it, in shapes that are not in the corpus."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.look.looking import World

S = "create type s as enum"


@dataclass
class Shape:
    """DDL, and what has to be inferred from it."""

    ddl: str
    key: str = "id"
    status: str = "status"
    pending: list[Any] = field(default_factory=list)
    running: list[Any] = field(default_factory=list)
    completed: list[Any] = field(default_factory=list)
    failed: list[Any] = field(default_factory=list)
    cancelled: list[Any] = field(default_factory=list)
    resting: list[Any] = field(default_factory=list)
    clocks: dict[str, str | None] = field(default_factory=dict)
    columns: dict[str, str | None] = field(default_factory=dict)
    unsure: list[str] = field(default_factory=list)
    table: str = "jobs"


TASKS = {
    "quoted mixed-case names, as Prisma makes them": Shape(
        'create type "JobStatus" as enum (\'PENDING\', \'IN_PROGRESS\', \'DONE\', \'FAILED\');'
        'create table "RenderJob" ("id" text primary key, "jobStatus" "JobStatus" not null default \'PENDING\','
        '"errorMessage" text, "retryCount" int, "createdAt" timestamp(3) default now(), "startedAt" timestamp(3),'
        '"updatedAt" timestamp(3), "finishedAt" timestamp(3), "userId" text, "jobType" text)',
        table="RenderJob", status="jobStatus",
        pending=["PENDING"], running=["IN_PROGRESS"], completed=["DONE"], failed=["FAILED"],
        clocks={"queued": "createdAt", "started": "startedAt", "alive": "updatedAt", "finished": "finishedAt"},
        columns={"error": "errorMessage", "kind": "jobType", "owner": "userId", "attempts": "retryCount"},
    ),
    "a schema that is not public": Shape(
        "create schema media; create table media.encodes (id bigint generated always as identity primary key,"
        "state text not null check (state in ('waiting','encoding','ready','failed')), created_at timestamptz)",
        table="media.encodes", status="state",
        pending=["waiting"], running=["encoding"], completed=["ready"], failed=["failed"], unsure=["'ready'"],
    ),
    "a domain with its own check": Shape(
        "create domain task_state as text default 'new' check (value in ('new','working','success','failure'));"
        "create table jobs (id bigserial primary key, status task_state not null, created timestamptz)",
        pending=["new"], running=["working"], completed=["success"], failed=["failure"], clocks={"queued": "created"},
    ),
    "an enum with resting words": Shape(
        f"{S} ('draft','queued','generating','needs_approval','published','failed','on hold');"
        "create table jobs (id uuid primary key, status s not null default 'draft', created_at timestamptz)",
        pending=["queued"], running=["generating"], completed=["published"], failed=["failed"],
        resting=["draft", "needs_approval", "on hold"], unsure=["'published'"],
    ),
    "an OR chain instead of IN": Shape(
        "create table jobs (id int primary key, status varchar(20), created_at timestamptz, check (status = 'todo' or "
        "status = 'doing' or status = 'succeeded' or status = 'failed' or status = 'aborted'))",
        pending=["todo"], running=["doing"], completed=["succeeded"], failed=["failed"], cancelled=["aborted"],
    ),
    "a regular expression": Shape(
        "create table jobs (id int primary key, status text check (status ~ '^(queued|running|done|failed)$'))",
        pending=["queued"], running=["running"], completed=["done"], failed=["failed"],
    ),
    "char with blanks behind it": Shape(
        "create table jobs (id int primary key, status char(12) check (status in ('QUEUED','RUNNING','DONE','ERROR')))",
        pending=["QUEUED"], running=["RUNNING"], completed=["DONE"], failed=["ERROR"],
    ),
    "an integer that a comment explains": Shape(
        "create table jobs (id int primary key, status smallint not null default 0 check (status between 0 and 4));"
        "comment on column jobs.status is '0 = pending, 1 = running, 2 = done, 3 = failed, 4 = cancelled'",
        pending=[0], running=[1], completed=[2], failed=[3], cancelled=[4],
    ),
    "a status that points to a table of states": Shape(
        "create table job_states (id int primary key, name text not null);"
        "insert into job_states values (10,'Waiting'),(20,'In progress'),(30,'Finished'),(40,'Failed');"
        "create table jobs (id uuid primary key, status_id int not null default 10 references job_states(id))",
        status="status_id", pending=[10], running=[20], completed=[30], failed=[40],
    ),
    "free text whose indexes name its words": Shape(
        "create table jobs (id uuid primary key, status text not null default 'QUEUED', payload jsonb, updated_at timestamptz);"
        "create index on jobs (updated_at) where status in ('RUNNING', 'RETRYING')",
        pending=["QUEUED", "RETRYING"], running=["RUNNING"], completed=["COMPLETED", "DONE", "SUCCEEDED", "SUCCESS"],
        failed=["FAILED", "ERROR"], cancelled=["CANCELLED", "CANCELED"], unsure=["words.failed", "'RETRYING'", "free text"],
    ),
    "free text whose rows show its words": Shape(
        "create table jobs (id serial primary key, status text, payload jsonb);"
        "insert into jobs (status) values ('wartend'), ('laufend'), ('fertig'), ('fehlgeschlagen'), ('quer')",
        pending=["wartend"], running=["laufend"], completed=["fertig"], failed=["fehlgeschlagen"], resting=["quer"],
        cancelled=["abgebrochen", "storniert"], unsure=["'quer'", "words.cancelled"],
    ),
    "Portuguese": Shape(
        "create table tarefas (id serial primary key, situacao text not null default 'na_fila' check (situacao in "
        "('na_fila','processando','concluída','falhou','cancelada','aguardando_aprovação')), criado_em timestamp,"
        "atualizado_em timestamp, mensagem_erro text, tentativas int)",
        table="tarefas", status="situacao",
        pending=["na_fila"], running=["processando"], completed=["concluída"], failed=["falhou"], cancelled=["cancelada"],
        resting=["aguardando_aprovação"], clocks={"queued": "criado_em", "alive": "atualizado_em"},
        columns={"error": "mensagem_erro", "attempts": "tentativas"},
    ),
    "Spanish": Shape(
        f"{S} ('Pendiente','En proceso','Completado','Fallido','Anulado');"
        "create table trabajos (id serial primary key, estado s not null, creado_en timestamptz, ultimo_error text)",
        table="trabajos", status="estado", pending=["Pendiente"], running=["En proceso"], completed=["Completado"],
        failed=["Fallido"], cancelled=["Anulado"], clocks={"queued": "creado_en"}, columns={"error": "ultimo_error"},
    ),
    "French": Shape(
        "create table taches (id serial primary key, statut text check (statut in ('en attente','en cours','terminé','échoué')))",
        table="taches", status="statut",
        pending=["en attente"], running=["en cours"], completed=["terminé"], failed=["échoué"],
    ),
    "German": Shape(
        "create table auftraege (id serial primary key, status text check (status in ('ausstehend','in_bearbeitung','erledigt','fehler')))",
        table="auftraege", pending=["ausstehend"], running=["in_bearbeitung"], completed=["erledigt"], failed=["fehler"],
    ),
    "Chinese, in pinyin": Shape(
        "create table jobs (id serial primary key, status text check (status in ('dengdai','chulizhong','wancheng','shibai')))",
        pending=["dengdai"], running=["chulizhong"], completed=["wancheng"], failed=["shibai"],
    ),
    "Chinese": Shape(
        "create table jobs (id serial primary key, status text check (status in ('待处理','处理中','已完成','失败')))",
        pending=["待处理"], running=["处理中"], completed=["已完成"], failed=["失败"],
    ),
    "a JSON error and a list of log lines": Shape(
        "create table jobs (id uuid primary key, status text check (status in ('pending','running','done','failed')),"
        "logs text[] not null default '{}', error jsonb)",
        pending=["pending"], running=["running"], completed=["done"], failed=["failed"], columns={"error": "error"},
    ),
    "log lines where there is no error": Shape(
        "create table jobs (id uuid primary key, status text check (status in ('pending','running','done','failed')), logs text[])",
        pending=["pending"], running=["running"], completed=["done"], failed=["failed"],
        columns={"error": "logs"}, unsure=["logs is taken"],
    ),
    "generated columns": Shape(
        "create table jobs (id uuid primary key, status text check (status in ('pending','running','done','failed')),"
        "started_at timestamptz, finished_at timestamptz, error text,"
        "is_open boolean generated always as (status in ('pending','running')) stored)",
        pending=["pending"], running=["running"], completed=["done"], failed=["failed"],
        clocks={"started": "started_at", "finished": "finished_at", "queued": None}, unsure=["clocks.queued"],
    ),
    "a partitioned table, its key made up by the database": Shape(
        "create table jobs (id uuid not null default gen_random_uuid(), created_at timestamptz not null default now(),"
        "status text not null check (status in ('pending','processing','completed','failed')), primary key (id, created_at))"
        "partition by range (created_at); create table jobs_all partition of jobs default",
        pending=["pending"], running=["processing"], completed=["completed"], failed=["failed"], unsure=["id alone is taken"],
    ),
    "an outbox of e-mail": Shape(
        "create table email_outbox (id bigserial primary key, recipient text not null, subject text, status text not null "
        "default 'pending' check (status in ('pending','sending','sent','failed')), sent_at timestamptz, created_at timestamptz)",
        table="email_outbox", pending=["pending"], running=["sending"], completed=["sent"], failed=["failed"], unsure=["'sent'", "sent_at"],
        clocks={"finished": "sent_at"},
    ),
    "Oban's words": Shape(
        "create table oban_jobs (id bigserial primary key, state text not null check (state in ('available','scheduled','executing',"
        "'retryable','completed','discarded','cancelled')), queue text, scheduled_at timestamptz, attempted_at timestamptz)",
        table="oban_jobs", status="state", pending=["retryable", "available", "scheduled"], running=["executing"],
        completed=["completed"], failed=["discarded"], cancelled=["cancelled"], unsure=["'scheduled'"],
    ),
    "Celery's words": Shape(
        "create table jobs (id serial primary key, state varchar(50) check (state in ('PENDING','RECEIVED','STARTED','RETRY','FAILURE',"
        "'SUCCESS','REVOKED')), date_done timestamptz)",
        status="state", pending=["PENDING", "RETRY"], running=["STARTED", "RECEIVED"], completed=["SUCCESS"], failed=["FAILURE"],
        cancelled=["REVOKED"], unsure=["'RECEIVED'"],
    ),
    "pg-boss's words": Shape(
        f"{S} ('created','retry','active','completed','cancelled','failed'); create table jobs (id uuid primary key, state s not null"
        " default 'created', createdon timestamptz, startedon timestamptz, completedon timestamptz, output jsonb)",
        status="state", pending=["created", "retry"], running=["active"], completed=["completed"], failed=["failed"],
        cancelled=["cancelled"], unsure=["'active'"], clocks={"queued": "createdon", "started": "startedon", "finished": "completedon"},
    ),
    "phases with compound words": Shape(
        "create table jobs (id uuid primary key, status text check (status in ('pending','processing_ocr','processing_llm',"
        "'completed','completed_with_warnings','ocr_failed','llm_failed','awaiting_confirmation')))",
        pending=["pending"], running=["processing_ocr", "processing_llm"], completed=["completed", "completed_with_warnings"],
        failed=["ocr_failed", "llm_failed"], resting=["awaiting_confirmation"], unsure=[],
    ),
    "an upload by the browser before the work": Shape(
        f"{S} ('uploading','queued','transcribing','done','failed'); create table jobs (id uuid primary key, status s)",
        pending=["queued"], running=["transcribing"], completed=["done"], failed=["failed"], resting=["uploading"], unsure=["'uploading'"],
    ),
    "two columns that may be the status": Shape(
        "create table jobs (id uuid primary key, status text check (status in ('active','archived')),"
        "processing_status text check (processing_status in ('pending','processing','completed','failed')))",
        status="processing_status", pending=["pending"], running=["processing"], completed=["completed"], failed=["failed"],
    ),
    "rows that are born running": Shape(
        "create table agent_runs (id uuid primary key, status text not null default 'running', error text, started_at timestamptz default now())",
        table="agent_runs", running=["running"], completed=["completed", "done", "succeeded", "success"], failed=["failed", "error"],
        cancelled=["cancelled", "canceled"], unsure=["words.failed", "clocks.queued"], clocks={"queued": "started_at", "started": "started_at"},
    ),
    "no primary key, but a unique column": Shape(
        "create table jobs (job_id text not null unique, status text check (status in ('pending','running','done','failed')))",
        key="job_id", pending=["pending"], running=["running"], completed=["done"], failed=["failed"], unsure=["job_id is taken"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_it_infers_the_mapping_of(name: str, world: World) -> None:
    shape = TASKS[name]
    world.run(*shape.ddl.split(";"))
    answer = world.check(table=shape.table)
    told = answer.json
    inferred = told["inferred"]
    assert told["refused"] is None
    assert (inferred["key"], inferred["status"]) == (shape.key, shape.status)
    for state in ("pending", "running", "completed", "failed", "cancelled", "resting"):
        assert sorted(map(str, inferred["words"][state])) == sorted(map(str, getattr(shape, state))), state
    assert {clock: inferred["clocks"][clock] for clock in shape.clocks} == shape.clocks
    assert {column: inferred[column] for column in shape.columns} == shape.columns
    for text in shape.unsure:
        assert answer.names(text), f"{text} is not in {told['unsure']}"
    assert all("--" in one for one in told["unsure"]), "each doubt names the option to give"


REFUSED = {
    "a to-do list": (
        "create table tasks (id uuid primary key, title text, due_date date, assignee_id uuid, status text default 'todo')",
        "tasks", "table for people",
    ),
    "a to-do list with the words of a queue": (
        "create table tasks (id uuid primary key, title text not null, description text, due_date date, status text default 'pending')",
        "tasks", "table for people",
    ),
    "a board": (
        f"{S} ('backlog','todo','in_progress','in_review','done'); create table issues (id uuid primary key, status s, story_points int)",
        "issues", "failed",
    ),
    "homework that may fail": (
        "create table homework (id uuid primary key, title text, description text, due_date date, assigned_to uuid, grade text,"
        "status text check (status in ('pending','in_progress','completed','failed')))",
        "homework", "table for people",
    ),
    "adverts": (
        "create table jobs (id uuid primary key, title text, company text, location text, salary int, status text default 'open')",
        "jobs", "table for people",
    ),
    "adverts with a closed list": (
        "create table jobs (id uuid primary key, title text, status text check (status in ('draft','published','closed','expired')))",
        "jobs", "running",
    ),
    "orders": (
        "create table orders (id uuid primary key, total numeric, currency text, status text default 'pending' check (status in "
        "('pending','processing','paid','shipped','failed','refunded')))",
        "orders", "goods and money",
    ),
    "orders in free text": (
        "create table orders (id serial primary key, customer_id int, total numeric, status text default 'pending')",
        "orders", "goods and money",
    ),
    "payments with the words of a queue": (
        "create table payments (id uuid primary key, amount int, currency text, status text check (status in "
        "('pending','processing','succeeded','failed')))",
        "payments", "goods and money",
    ),
    "invoices": (
        "create table invoices (id serial primary key, amount int, status text check (status in ('draft','sent','paid','overdue','void')))",
        "invoices", "running",
    ),
    "users": (
        "create table users (id uuid primary key, email text, full_name text, status text not null default 'active')",
        "users", "table for people",
    ),
    "users with an enum": (
        f"{S} ('active','inactive','suspended'); create table users (id uuid primary key, status s)", "users", "running",
    ),
    "reviews by people": (
        "create table applications (id uuid primary key, status text check (status in ('pending','in_review','approved','rejected')))",
        "applications", "running",
    ),
    "a table without a status": ("create table jobs (id uuid primary key, done boolean, failed boolean)", "jobs", "status"),
    "a view": (
        "create table base_jobs (id int primary key, status text check (status in ('pending','running','done','failed')));"
        "create view jobs as select * from base_jobs",
        "jobs", "base_jobs",
    ),
    "a composite key": (
        "create table jobs (tenant text, number int, status text check (status in ('pending','running','done','failed')),"
        "primary key (tenant, number))",
        "jobs", "tenant, number",
    ),
    "no key at all": (
        "create table jobs (status text check (status in ('pending','running','done','failed')))", "jobs", "primary key",
    ),
    "a status of a thousand values": (
        "create table jobs (id serial primary key, status text, payload jsonb);"
        "insert into jobs (status) select 'at ' || n from generate_series(1, 1000) n",
        "jobs", "different values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses(name: str, world: World) -> None:
    ddl, table, why = REFUSED[name]
    world.run(*ddl.split(";"))
    answer = world.check(table=table)
    assert answer.code == 1
    assert why in answer.json["refused"]
    assert answer.json["stuck"] == []
    assert "--" in answer.json["refused"], "it names the option to give"


def test_a_person_who_gives_the_words_overrules_the_refusal(world: World) -> None:
    world.run(
        "create table payments (id serial primary key, amount int, status text check (status in "
        "('pending','processing','succeeded','failed')), updated_at timestamptz)",
        "insert into payments (status, updated_at) values ('processing', now() - interval '1 day')",
    )
    given = {"pending": ["pending"], "running": ["processing"], "completed": ["succeeded"], "failed": ["failed"]}
    answer = world.check("--map", world.map(words=given), table="payments")
    assert (answer.code, answer.ids()) == (3, ["1"])


@pytest.mark.parametrize("kind", ["integer", "boolean"])
def test_it_asks_what_numbers_mean_and_then_knows(kind: str, world: World) -> None:
    values = ("2", "3") if kind == "integer" else ("true", "false")
    world.run(
        f"create table jobs (id serial primary key, status {kind}, error text, created_at timestamptz)",
        f"insert into jobs (status, created_at) values ({values[0]}, now() - interval '1 day')",
    )
    answer = world.check()
    assert answer.code == 1
    assert answer.json["refused"] is None
    assert answer.names("--map FILE")
    file = world.map(words={"running": [values[0]], "failed": [values[1]]})
    assert world.fix("--map", file).json["fixed"] == ["1"]
    assert str(world.one("select status from jobs")).lower() == values[1]
