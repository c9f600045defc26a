-- net: notifications, wake-ups and the ping of a check-in service by pg_net, for a database that
-- has no sweep outside. A request is queued in the transaction that marks its message, so neither
-- is there without the other; its answer is read by a later run. pg_net keeps its queue in unlogged
-- tables: what a crash of the server loses comes again, under the same id, when its lease is over.

-- Says where an address is: `select unstuck.notify_to('https://hooks.slack.com/...')`. A URL, and a
-- secret, may be `vault:NAME` of Supabase's Vault. Without a URL the address is removed. Names with
-- a meaning: `callback` (hosts that tasks may name, and the secret), `worker` (is told of tasks
-- that wait again), `ping` (is asked after each sweep that ended well).
create or replace function unstuck.notify_to(
  p_url text,
  p_name text default 'default',
  p_secret text default null,
  p_headers jsonb default '{}',
  p_hosts text[] default '{}'
) returns void language plpgsql as $$
begin
  if p_url !~ '^(https?://|vault:)' then
    raise exception 'the URL of an address begins with https:// or vault:'
      using errcode = 'invalid_parameter_value';
  end if;
  delete from unstuck.addresses d where d.name = p_name;
  insert into unstuck.addresses (name, url, secret, headers, hosts)
  select p_name, p_url, p_secret, p_headers, array(select lower(h) from unnest(p_hosts) h)
  where p_url is not null or p_hosts <> '{}';
end $$;

-- The text itself, or the secret of the Vault that it names.
create or replace function unstuck.opened(p_text text) returns text language plpgsql stable as $$
declare
  v_secret text;
begin
  if p_text like 'vault:%' then
    execute 'select s.decrypted_secret from vault.decrypted_secrets s where s.name = $1'
    into v_secret
    using substr(p_text, 7);
    return v_secret;
  end if;
  return p_text;
end $$;

-- HMAC with SHA-256 (RFC 2104), without pgcrypto.
create or replace function unstuck.hmac_sha256(p_key bytea, p_message bytea) returns bytea
language plpgsql immutable as $$
declare
  v_key   bytea := case when length(p_key) > 64 then sha256(p_key) else p_key end;
  v_inner bytea;
  v_outer bytea;
begin
  v_key := v_key || decode(repeat('00', 64 - length(v_key)), 'hex');
  v_inner := v_key;
  v_outer := v_key;
  for i in 0..63 loop
    v_inner := set_byte(v_inner, i, get_byte(v_key, i) # 54);
    v_outer := set_byte(v_outer, i, get_byte(v_key, i) # 92);
  end loop;
  return sha256(v_outer || sha256(v_inner || p_message));
end $$;

-- The headers of Standard Webhooks, as functions/sweep/notify.py makes them.
create or replace function unstuck.signed(p_secret text, p_id text, p_body text) returns jsonb
language sql stable as $$
  select jsonb_build_object('webhook-id', p_id, 'webhook-timestamp', s.at)
    || case when p_secret <> '' then jsonb_build_object(
      'webhook-signature',
      'v1,' || encode(unstuck.hmac_sha256(
        case
          when p_secret like 'whsec\_%' then decode(substr(p_secret, 7), 'base64')
          else convert_to(p_secret, 'UTF8')
        end,
        convert_to(concat(p_id, '.', s.at, '.', p_body), 'UTF8')
      ), 'base64')
    ) else '{}' end
  from (select floor(extract(epoch from clock_timestamp()))::bigint::text as at) s
$$;

-- A kind is data: it begins no line, and Slack must not read it as a link or a mention.
create or replace function unstuck.escaped(p_kind text) returns text language sql immutable as $$
  select case
    when p_kind ~ '^[A-Za-z0-9_-]{1,100}$' then p_kind
    else concat('`', replace(replace(replace(replace(
      left(regexp_replace(p_kind, '[^[:alnum:] -~]', '?', 'g'), 100), '`', ''''
    ), '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '`')
  end
$$;

-- What a receiver reads: the same as body() in functions/sweep/notify.py.
create or replace function unstuck.outbox_body(p_message jsonb) returns jsonb
language sql stable as $$
  with told as (
    select t.task, t.at, t.task ->> 'state' as state
    from jsonb_array_elements(p_message -> 'tasks') with ordinality as t (task, at)
  ), lines as (
    select
      row_number() over (order by count(*) desc, min(t.at)) as place,
      count(*) as count,
      format(
        '%s x %s of %s: %s',
        count(*),
        unstuck.escaped(t.task ->> 'kind'),
        t.task ->> 'watch',
        t.task ->> 'reason'
      ) as line
    from told t
    where t.state <> 'notice'
    group by t.task ->> 'watch', t.task ->> 'kind', t.task ->> 'reason'
  ), listed as (
    select t.task, t.at
    from told t
    where t.at <= 50 or p_message ->> 'address' = 'callback'
  )
  select jsonb_build_object(
    'text', concat_ws(
      E'\n',
      (
        select string_agg(n.text, E'\n' order by n.at)
        from (
          select coalesce(t.task ->> 'cause', t.task ->> 'reason') as text, min(t.at) as at
          from told t
          where t.state = 'notice'
          group by 1
        ) n
      ),
      (
        select string_agg(
          format('%s task%s %s', c.count, case when c.count > 1 then 's' end, c.state),
          ', ' order by c.place
        ) || ':'
        from (
          select s.state, s.place, count(*) as count
          from told t
          join unnest(array['failed', 'retried', 'cancelled', 'completed'])
            with ordinality as s (state, place) using (state)
          group by s.state, s.place
        ) c
      ),
      (select string_agg(l.line, E'\n' order by l.place) from lines l where l.place <= 10),
      (
        select format('and %s more', sum(l.count))
        from lines l
        where l.place > 10
        having count(*) > 0
      )
    ),
    'id', p_message -> 'message',
    'count', jsonb_array_length(p_message -> 'tasks'),
    'tasks', (select coalesce(jsonb_agg(l.task order by l.at), '[]') from listed l),
    'more', jsonb_array_length(p_message -> 'tasks') - (select count(*) from listed)
  )
$$;

-- Whether pg_net is here.
create or replace function unstuck.has_net() returns boolean language sql stable as $$
  select to_regclass('net.http_request_queue') is not null
    and to_regclass('net._http_response') is not null
$$;

-- Whether the host of a callback is one that the owner of the database allowed.
create or replace function unstuck.may_call(p_url text) returns boolean language sql stable as $$
  select exists (
    select
    from unstuck.addresses d, unnest(d.hosts) h,
      substring(lower(p_url) from '^https://([a-z0-9.-]+)(?::\d{1,5})?(?:[/?#][^\s\\]*)?$') as host
    where d.name = 'callback'
      and (host = h or h like '*.%' and right(host, length(h) - 1) = substr(h, 2))
  )
$$;

-- Reads the answers to what was sent. A message whose request still waits in pg_net's queue is not
-- sent again.
create or replace function unstuck.net_read() returns void language plpgsql as $$
declare
  v_sent   record;
  v_answer record;
begin
  for v_sent in
    select o.message, max(o.times) as times, max(o.request) as request
    from unstuck.outbox o
    where o.ended_at is null
      and o.request is not null
    group by o.message
  loop
    select r.status_code, r.error_msg, r.timed_out
    into v_answer
    from net._http_response r
    where r.id = v_sent.request;
    if found then
      perform unstuck.outbox_end(
        v_sent.message,
        case
          when v_answer.status_code between 200 and 299 then null
          when v_answer.status_code is not null then
            format('the receiver answered %s', v_answer.status_code)
          else concat(
            'the receiver cannot be reached: ',
            coalesce(v_answer.error_msg, case when v_answer.timed_out then 'timeout' end)
          )
        end,
        unstuck.outbox_pause(v_sent.times)
      );
    elsif exists (select from net.http_request_queue q where q.id = v_sent.request) then
      update unstuck.outbox o
      set due_at = clock_timestamp() + interval '1 minute'
      where o.message = v_sent.message
        and o.ended_at is null;
    end if;
  end loop;
end $$;

-- Sends what waits. Returns how many messages.
create or replace function unstuck.net_send(
  p_limit integer default 50,
  p_watches text[] default null
) returns integer language plpgsql as $$
declare
  v_addresses constant text[] := array(
    select d.name
    from unstuck.addresses d
    where d.name not in ('ping', 'worker')
      and (d.url is not null or d.name = 'callback' and d.hosts <> '{}')
  );
  v_message jsonb;
  v_id      uuid;
  v_to      unstuck.addresses;
  v_url     text;
  v_body    jsonb;
  v_request bigint;
begin
  for v_count in 0 .. p_limit - 1 loop
    v_message := case
      when v_addresses <> '{}' then unstuck.outbox_take(60, 500, p_watches, v_addresses)
    end;
    if v_message is null then
      return v_count;
    end if;
    v_id := v_message ->> 'message';
    select * into v_to from unstuck.addresses d where d.name = v_message ->> 'address';
    v_url := v_message ->> 'url';
    if v_url is not null and not unstuck.may_call(v_url) then
      perform unstuck.outbox_end(v_id, 'the host of the callback is not allowed');
      continue;
    end if;
    v_body := unstuck.outbox_body(v_message);
    begin
      v_request := net.http_post(
        url => coalesce(v_url, unstuck.opened(v_to.url)),
        body => v_body,
        headers => v_to.headers || '{"Content-Type": "application/json"}'
          || unstuck.signed(unstuck.opened(v_to.secret), v_id::text, v_body::text),
        timeout_milliseconds => 5000
      );
      -- pg_net counts anew after a crash of the server
      update unstuck.outbox o
      set request = case when o.message = v_id then v_request end
      where o.ended_at is null
        and (o.message = v_id or o.request = v_request);
    exception when others then
      perform unstuck.outbox_end(
        v_id, format('it could not be sent: %s', sqlstate), (v_message ->> 'retry_after')::float8
      );
    end;
  end loop;
  return p_limit;
end $$;

-- Wakes workers up: a POST for each task, with the body that the function `worker` takes. Which
-- task runs is chosen by the claim.
create or replace function unstuck.net_wake(p_watch text, p_ids text[]) returns void
language plpgsql as $$
begin
  perform net.http_post(
    url => unstuck.opened(d.url),
    body => jsonb_build_object('watch', p_watch, 'task_id', i),
    headers => d.headers || '{"Content-Type": "application/json"}',
    timeout_milliseconds => 5000
  )
  from unstuck.addresses d, unnest(p_ids) as i
  where d.name = 'worker';
end $$;

-- Asks the check-in service that misses the sweep when it does not come.
create or replace function unstuck.net_ping() returns void language plpgsql as $$
begin
  perform net.http_get(url => unstuck.opened(d.url), timeout_milliseconds => 5000)
  from unstuck.addresses d
  where d.name = 'ping';
end $$;

-- Tells that the sweep is silent, from another path than pg_cron: a claim, a create or a poll. Once
-- in each silence, and again each hour. It never fails who noticed.
create or replace function unstuck.tell_silence(p_installation text, p_last timestamptz)
returns void language plpgsql set lock_timeout = '100ms' as $$
begin
  perform
  from unstuck.watchdog w
  where w.installation = p_installation
    and (w.told_at is null or w.told_at < greatest(p_last, clock_timestamp() - interval '1 hour'))
  for update skip locked;
  if not found then
    return;
  end if;
  update unstuck.watchdog w
  set told_at = clock_timestamp()
  where w.installation = p_installation;
  perform unstuck.notice('sweep_silent', format(
    'The sweep has not run since %s UTC: tasks that are stuck stay so. See cron.job_run_details.',
    to_char(p_last at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')
  ));
  if unstuck.has_net() then
    perform unstuck.net_read();
    perform unstuck.net_send(10);
  end if;
exception when others then
  raise warning 'unstuck: the silence of the sweep could not be told: %', sqlerrm;
end $$;
