# Supabase's REST API, and browsers whose users sign in with Supabase.
project_id          = "my-project"
region              = "us-east1"
database            = "supabase"
users               = "supabase"
supabase_url        = "https://abcdefghijklmnop.supabase.co"
api_invokers        = ["allUsers"]
cors_origins        = ["https://app.example.com"]
notification_emails = ["oncall@example.com"]
