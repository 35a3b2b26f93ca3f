"""Who asked for a job, and what a queued one waits for.

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.add_column(sa.Column('created_by', sa.String(), nullable=False, server_default=''))
        batch_op.add_column(sa.Column('waiting_for', sa.Text(), nullable=False, server_default=''))


def downgrade() -> None:
    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.drop_column('waiting_for')
        batch_op.drop_column('created_by')
